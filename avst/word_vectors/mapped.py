"""A binary word2vec file, mapped into memory: opened at once, its pages shared by all processes that use it.

    <words> <dimensions>\\n
    <word> <dimensions x float32, little-endian>[\\n]      once a word

A vector stands right behind its word, so it is not aligned; the few rows that are asked for are copied. Where a word
is, an index says (word_index.py). The word's own bytes are compared before its vector is taken.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from avst.errors import AvstError
from avst.word_vectors.source import GOOGLENEWS_TAU
from avst.word_vectors.word_index import Layout, hashes_of, open_index


class MappedVectors:
    """A Source over a binary word2vec file. AvstError where the file is damaged or cannot be mapped.

    It reads what gensim reads: words in strict UTF-8, newlines before a word taken off, of equal words the first.
    Places are the byte offsets of the vectors.
    """

    tau = GOOGLENEWS_TAU

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = str(path)
        try:
            with path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
                header_bytes = self._map.find(b"\n") + 1
                count, self.dimensions = (int(field) for field in self._map[:header_bytes].split())
                layout = Layout(header_bytes, count, row_bytes=4 * self.dimensions)
                self._index = open_index(path, file.fileno(), layout)
        except (OSError, ValueError) as error:
            raise AvstError(f"{path}: cannot be mapped into memory: {error}; try word_vectors.mapped=false") from error
        self._row_bytes = layout.row_bytes

    def __reduce__(self) -> tuple[type[MappedVectors], tuple[Path]]:
        return MappedVectors, (self.path,)  # another process maps the file for itself

    def find(self, words: Iterable[str]) -> dict[str, int]:
        written = [word for word in words if word and " " not in word]  # a space ends a word of the file
        if not written:
            return {}
        # All at once: a hostile answer has 20,000 words. A lone surrogate, as JSON may hold, is in no word of the file.
        stored = " ".join(written).encode("utf-8", "surrogatepass").split(b" ")
        codes = hashes_of(stored)
        hashes, offsets = self._index
        first, order = np.empty(len(codes), dtype=np.intp), np.argsort(codes)
        first[order] = np.searchsorted(hashes, codes[order])  # in order: neighbours are in the same pages, 4x as fast
        hits = np.flatnonzero(hashes[np.minimum(first, len(hashes) - 1)] == codes)
        places: dict[str, int] = {}
        for i in hits.tolist():
            end = stored[i] + b" "
            for at in range(int(first[i]), len(hashes)):  # more than one round only for equal hashes
                if hashes[at] != codes[i]:
                    break
                place = int(offsets[at]) + len(end)
                if self._map[place - len(end) : place] == end and place + self._row_bytes <= len(self._map):
                    places[written[i]] = place
                    break
        return places

    def rows(self, places: Sequence[int]) -> np.ndarray:
        packed = b"".join([self._map[place : place + self._row_bytes] for place in places])
        return np.frombuffer(packed, dtype="<f4").reshape(len(places), self.dimensions)
