"""Where vectors come from: what every source offers, and the one that holds gensim's vectors in memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from gensim.models import KeyedVectors

GOOGLENEWS_TAU = 0.75


class Source(Protocol):
    """Words and their vectors, of `dimensions` numbers each. Words are looked up as they are written.

    name: for messages;  tau: from which similarity on two names are the same, unless the user says otherwise.
    """

    name: str
    tau: float
    dimensions: int

    def find(self, words: Iterable[str]) -> dict[str, int]:
        """Word -> where its vector is, for those of `words` that have one."""

    def rows(self, places: Sequence[int]) -> np.ndarray:
        """float32 (n, d): the vectors at n places that `find` gave."""


class GensimVectors:
    """Vectors that gensim has read: all of them in this process's memory."""

    def __init__(self, vectors: KeyedVectors, name: str = "word vectors", tau: float = GOOGLENEWS_TAU) -> None:
        self.vectors = vectors
        self.name = name
        self.tau = tau
        self.dimensions: int = vectors.vector_size

    def find(self, words: Iterable[str]) -> dict[str, int]:
        index = self.vectors.key_to_index
        return {word: index[word] for word in words if word in index}

    def rows(self, places: Sequence[int]) -> np.ndarray:
        rows: np.ndarray = self.vectors.vectors[places]
        return rows
