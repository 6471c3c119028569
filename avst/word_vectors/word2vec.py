"""Files in word2vec's format: the binary one is mapped (mapped.py), text and .gz are read by gensim.

Formats that run code when they are opened (pickles, and what hides one: .npy, .kv, .model, .pt) are refused by their
content, whatever they are called.
"""

from __future__ import annotations

import gzip
import logging
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from avst.errors import AvstError
from avst.word_vectors.mapped import MappedVectors
from avst.word_vectors.source import GensimVectors, Source

_HEAD_BYTES = 1 << 16
_BLOCK_BYTES = 1 << 20
_WORD_BYTES, _NUMBER_BYTES = 4096, 64  # more than any word, or any number as text, takes
_MOST_PACKED = 100  # real vectors shrink to a third; a bomb to a thousandth
_LONG_READ_BYTES = 100 << 20
log = logging.getLogger(__name__)


def open_word2vec(path: Path, mapped: bool = True) -> Source:
    """The vectors of a word2vec file. AvstError where it is absent, damaged or another format.

    mapped: False reads a binary file as a text is read, by gensim and whole.
    """
    head = _head(path)
    binary = not head.text
    if binary and mapped and path.suffix != ".gz":
        return MappedVectors(path)
    _refuse_bombs(path, head)
    if mapped and path.stat().st_size > _LONG_READ_BYTES:
        log.warning("%s is read whole by every process; an unpacked binary word2vec file would be mapped", path)
    from gensim.models import KeyedVectors

    try:
        vectors = KeyedVectors.load_word2vec_format(str(path), binary=binary)
    except (OSError, EOFError, ValueError, UnicodeDecodeError, MemoryError) as error:
        raise AvstError(f"{path}: damaged word2vec file: {_one_line(error)}") from error
    return GensimVectors(vectors, str(path))


class _Head(NamedTuple):
    """What the first line says, and how many bytes so many words take at least. text: not the binary format."""

    n_words: int
    dimensions: int
    text: bool
    least_bytes: int


def _head(path: Path) -> _Head:
    """Look at the file before anything reads it."""
    try:
        with _opened(path) as file:
            head = file.read(_HEAD_BYTES)
    except (OSError, EOFError, ValueError) as error:  # ValueError: a NUL in the path
        raise AvstError(f"{path}: cannot read word vectors: {_one_line(error)}") from error
    first, newline, rest = head.partition(b"\n")
    fields = first.split()
    if not newline or len(fields) != 2 or not all(f.isdigit() and len(f) <= 12 for f in fields):
        raise AvstError(
            f"{path}: not a word2vec file (its first line must be two numbers: words and dimensions); pickles, .npy, "
            ".kv and .pt are refused because opening them may run code: save with KeyedVectors.save_word2vec_format"
        )
    count, dimensions = (int(f) for f in fields)
    if count < 1 or dimensions < 1:
        raise AvstError(f"{path}: a word2vec file of {count} words and {dimensions} dimensions")
    text = _is_text_row(rest.partition(b"\n")[0], dimensions)
    least = count * dimensions * (2 if text else 4)
    if path.suffix != ".gz" and path.stat().st_size < least:
        raise _too_short(path, count, dimensions)
    return _Head(count, dimensions, text, least)


def _refuse_bombs(path: Path, head: _Head) -> None:
    """Read through a file that gensim is to read, in little memory: it believes the header, and holds whole lines.

    Raises AvstError for a file that unpacks to a hundred times its size, for one that is shorter than its header says,
    and for a line that no word and its numbers can fill.
    """
    packed = path.suffix == ".gz"
    most = _MOST_PACKED * path.stat().st_size + _BLOCK_BYTES if packed else None
    longest = _WORD_BYTES + head.dimensions * _NUMBER_BYTES
    seen = 0
    try:
        with _opened(path) as file:
            while piece := file.readline(longest + 1) if head.text else file.read(_BLOCK_BYTES):
                seen += len(piece)
                if head.text and len(piece) > longest:
                    raise AvstError(f"{path}: damaged word2vec file: a line of more than {longest} bytes")
                if most is not None and seen > most:
                    raise AvstError(f"{path}: refused, it unpacks to more than {_MOST_PACKED} times its size")
    except (OSError, EOFError) as error:
        raise AvstError(f"{path}: damaged word2vec file: {_one_line(error)}") from error
    if seen < head.least_bytes:
        raise _too_short(path, head.n_words, head.dimensions)


def _opened(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path) if path.suffix == ".gz" else path.open("rb"))


def _too_short(path: Path, count: int, dimensions: int) -> AvstError:
    return AvstError(f"{path}: damaged word2vec file: shorter than its {count} words of {dimensions} numbers")


def _is_text_row(row: bytes, dimensions: int) -> bool:
    fields = row.split()
    if len(fields) < dimensions + 1:
        return False
    try:
        for number in fields[-dimensions:]:
            float(number)
    except ValueError:
        return False
    return True


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
