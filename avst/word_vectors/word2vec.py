"""Files in word2vec's format: the binary one is mapped (mapped.py), text and .gz are read by gensim.

Formats that run code when they are opened (pickles, and what hides one: .npy, .kv, .model, .pt) are refused by their
content, whatever they are called.
"""

from __future__ import annotations

import gzip
import logging
from pathlib import Path

from avst.errors import AvstError
from avst.word_vectors.mapped import MappedVectors
from avst.word_vectors.source import GensimVectors, Source

_HEAD_BYTES = 1 << 16
_LONG_READ_BYTES = 100 << 20
log = logging.getLogger(__name__)


def open_word2vec(path: Path, mapped: bool = True) -> Source:
    """The vectors of a word2vec file. AvstError where it is absent, damaged or another format.

    mapped: False reads a binary file as a text is read, by gensim and whole.
    """
    binary = _is_binary(path)
    if binary and mapped and path.suffix != ".gz":
        return MappedVectors(path)
    if mapped and path.stat().st_size > _LONG_READ_BYTES:
        log.warning("%s is read whole by every process; an unpacked binary word2vec file would be mapped", path)
    from gensim.models import KeyedVectors

    try:
        vectors = KeyedVectors.load_word2vec_format(str(path), binary=binary)
    except (OSError, EOFError, ValueError, UnicodeDecodeError, MemoryError) as error:
        raise AvstError(f"{path}: damaged word2vec file: {_one_line(error)}") from error
    return GensimVectors(vectors, str(path))


def _is_binary(path: Path) -> bool:
    """Look at the file before anything reads it. True for word2vec's binary format, False for its text format."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except (OSError, EOFError) as error:
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
        raise AvstError(f"{path}: damaged word2vec file: shorter than its {count} words of {dimensions} numbers")
    return not text


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
