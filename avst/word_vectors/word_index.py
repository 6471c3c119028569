"""Where each word of a binary word2vec file is: made once, kept in a file that is itself mapped.

An index is uint64 (2, 1 + N): column 0 is the fingerprint of the file it belongs to, and N; then N columns
(hash of a word, byte offset of the word), by ascending hash, equal hashes in the file's order. It stands beside the
vectors (<name>.index.npy) or, where nothing can be written there, in the user's cache folder; where neither can be
written it stays in memory. It appears whole or not at all, so several processes may make it at once.
"""

from __future__ import annotations

import hashlib
import logging
import mmap
import os
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from zlib import adler32, crc32

import numpy as np

from avst.durable import replacing
from avst.errors import AvstError

SMALL_BYTES = 32 << 20  # the index of a smaller file is made faster than its place is found, and litters no folder
_VERSION = 1
_EDGE_BYTES = 1 << 16
_WORDS_HELD = 1 << 16
log = logging.getLogger(__name__)


class Layout(NamedTuple):
    """What the first line of the vectors' file says: its own length, the number of words, bytes of a vector."""

    header_bytes: int
    n_words: int
    row_bytes: int


class WordIndex(NamedTuple):
    """uint64 (N,) each: ascending hashes of the words, byte offsets of the words."""

    hashes: np.ndarray
    offsets: np.ndarray


def hashes_of(words: Sequence[bytes]) -> np.ndarray:
    """uint64 (n,), the same in every process and on every machine. Quick rather than strong: words are compared too."""
    high = np.fromiter(map(crc32, words), dtype=np.uint64, count=len(words))
    return high << 32 | np.fromiter(map(adler32, words), dtype=np.uint64, count=len(words))


def open_index(path: Path, file: int, layout: Layout) -> WordIndex:
    """The index of the vectors' file `path`, open as `file`: found, or made and kept. AvstError for a damaged file."""
    if os.fstat(file).st_size < SMALL_BYTES:
        return _split(_make(path, file, layout))
    fingerprint = _fingerprint(file)
    places = index_places(path)
    for place in places:
        found = _read(place, fingerprint, layout.n_words)
        if found is not None:
            return _split(found)
    log.info("%s: looking up where its %d words are; this is done once", path, layout.n_words)
    made = _make(path, file, layout)
    made[:, 0] = fingerprint, layout.n_words
    for place in places:
        if _write(place, made):
            kept = _read(place, fingerprint, layout.n_words)  # its pages are shared, those of `made` are not
            return _split(made if kept is None else kept)
    log.warning("%s: its index can be kept in none of %s; every process makes its own", path, [str(p) for p in places])
    return _split(made)


def index_places(path: Path) -> list[Path]:
    """Where the index of `path` may be, the first choice first."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    root = Path(cache if os.path.isabs(cache) else os.path.expanduser("~/.cache"))
    absolute = os.path.abspath(path)
    name = f"{path.name}.{hashes_of([os.fsencode(absolute)])[0]:016x}.index.npy"
    return [path.with_name(f"{path.name}.index.npy"), root / "avst" / "word_vectors" / name]


def _fingerprint(file: int) -> int:
    found = os.fstat(file)
    digest = hashlib.blake2b(f"{_VERSION} {found.st_size} {found.st_mtime_ns} ".encode(), digest_size=8)
    digest.update(os.pread(file, _EDGE_BYTES, 0))
    digest.update(os.pread(file, _EDGE_BYTES, max(0, found.st_size - _EDGE_BYTES)))
    return int.from_bytes(digest.digest(), "little")


def _make(path: Path, file: int, layout: Layout) -> np.ndarray:
    """Read through the file once, as gensim does: uint64 (2, 1 + N), column 0 still empty."""
    hashes: list[np.ndarray] = []
    offsets, held = array("Q"), list[bytes]()
    with mmap.mmap(file, 0, access=mmap.ACCESS_READ) as content:
        at = layout.header_bytes
        for number in range(layout.n_words):
            space = content.find(b" ", at)
            vector_end = space + 1 + layout.row_bytes
            if space < 0 or vector_end > len(content):
                raise AvstError(f"{path}: damaged word2vec file: it ends after {number} of its {layout.n_words} words")
            word = content[at:space].lstrip(b"\n")  # some writers end a vector with a newline
            try:
                word.decode("utf-8")
            except UnicodeDecodeError as error:
                raise AvstError(f"{path}: damaged word2vec file: word {number + 1}: {error}") from error
            held.append(word)
            offsets.append(space - len(word))
            at = vector_end
            if len(held) == _WORDS_HELD or number + 1 == layout.n_words:
                hashes.append(hashes_of(held))
                held.clear()
                content.madvise(mmap.MADV_DONTNEED)  # the pages behind: 3.6 GB of them would count as this process's
    made = np.zeros((2, 1 + layout.n_words), dtype=np.uint64)
    codes = np.concatenate(hashes)
    order = np.argsort(codes, kind="stable")
    made[0, 1:] = codes[order]
    made[1, 1:] = np.frombuffer(offsets, dtype=np.uint64)[order]
    return made


def _read(place: Path, fingerprint: int, count: int) -> np.ndarray | None:
    """The index kept at `place`, mapped; None where there is none, or another file's or an older one's."""
    try:
        kept = np.load(place, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    if not isinstance(kept, np.memmap) or kept.dtype != np.uint64 or kept.shape != (2, 1 + count):
        return None
    return kept if (int(kept[0, 0]), int(kept[1, 0])) == (fingerprint, count) else None


def _write(place: Path, index: np.ndarray) -> bool:
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with replacing(place) as temporary, temporary.open("wb") as file:
            np.save(file, index, allow_pickle=False)
    except OSError as error:
        log.debug("%s: cannot be written: %s", place, error)
        return False
    return True


def _split(index: np.ndarray) -> WordIndex:
    plain = index.view(np.ndarray)  # of the map's pages, without np.memmap's cost at every access
    return WordIndex(plain[0, 1:], plain[1, 1:])
