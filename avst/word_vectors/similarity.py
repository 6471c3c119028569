"""How alike two object names are (Eq. 2): the cosine of the averaged vectors of their words.

A name is lower-cased, freed of apostrophes, other punctuation turned into spaces, freed of a/an/the
(avst/word_vectors/names.py). Vectors come from a source (source.py): those in the package (embedded.py), or a word2vec
file (word2vec.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from avst.errors import AvstError
from avst.word_vectors.embedded import embedded
from avst.word_vectors.names import normalise_all
from avst.word_vectors.source import GOOGLENEWS_TAU, Source
from avst.word_vectors.word2vec import open_word2vec

EQUAL_NAMES = "equal_names"  # in place of a path: no vectors


class WordVectors:
    """Names to similarities. `tau`: from which similarity on two names are taken for the same thing.

    Without a source equal names have similarity 1 and all others 0.
    """

    def __init__(self, source: Source | None = None, tau: float | None = None) -> None:
        if tau is None:
            tau = GOOGLENEWS_TAU if source is None else source.tau
        if not 0.0 < tau <= 1.0:
            raise AvstError(f"word vectors: tau must be above 0 and at most 1, got {tau}")
        self.source = source
        self.tau = tau

    @classmethod
    def load(cls, path: str | Path | None = None, tau: float | None = None, mapped: bool = True) -> WordVectors:
        """Those of the package (None), none ("equal_names"), or a word2vec file (binary or text, optionally .gz).

        tau: None takes the source's own, GoogleNews' 0.75 for a file.  mapped: False reads the whole file into memory.
        AvstError where the file is absent, damaged or of another format.
        """
        if path is None:
            return cls(embedded(), tau)
        return cls(None if str(path) == EQUAL_NAMES else open_word2vec(Path(path), mapped), tau)

    def similarity(self, a: str, b: str) -> float:
        """Cosine of two names, 1 for equal names, 0 where one is empty or has no vector."""
        return float(self.similarities([a], [b])[0][0, 0])

    def similarities(self, predicted: Sequence[str], gold: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """All pairs at once: (similarity float64 (P, M), equal bool (P, M)) for P predicted and M gold names."""
        rows = {name: row for row, name in enumerate(dict.fromkeys(predicted))}
        wanted = normalise_all(gold)
        written = normalise_all(list(rows))
        equal = np.zeros((len(written), len(wanted)), dtype=bool)
        named = set(wanted) - {""}
        for row in [row for row, name in enumerate(written) if name in named]:
            equal[row] = [written[row] == name for name in wanted]
        similarity = self._cosines(written, wanted)
        similarity[equal] = 1.0
        if len(rows) == len(predicted):
            return similarity, equal
        order = np.fromiter((rows[name] for name in predicted), dtype=np.intp, count=len(predicted))
        return similarity[order], equal[order]

    def _cosines(self, written: list[str], wanted: list[str]) -> np.ndarray:
        cosines = np.zeros((len(written), len(wanted)))
        if self.source is None:
            return cosines
        columns, right = _directions(self.source, wanted)
        if len(columns):
            rows, left = _directions(self.source, written)
            cosines[np.ix_(rows, columns)] = np.clip(left @ right.T, -1.0, 1.0)
        return cosines


def _directions(source: Source, names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors (n, d) of the names that have one, and which names these are (n,). A zero vector is none."""
    known = source.find(dict.fromkeys(" ".join(names).split()))
    owners: list[int] = []
    places: list[int] = []
    for owner, name in enumerate(names if known else ()):
        if " " not in name and name not in known:
            continue  # the quick way out: long lists of nonsense
        for word in name.split():
            if word in known:
                owners.append(owner)
                places.append(known[word])
    which, starts = np.unique(np.array(owners, dtype=np.intp), return_index=True)
    if not len(which):
        return which, np.zeros((0, source.dimensions))
    sums = np.add.reduceat(source.rows(places).astype(np.float64), starts, axis=0)  # mean up to its length
    lengths = np.linalg.norm(sums, axis=1)
    if not np.isfinite(lengths).all():
        bad = names[which[np.flatnonzero(~np.isfinite(lengths))[0]]]
        raise AvstError(f"{source.name}: the vector of a word in {bad!r} is not finite")
    some = lengths > 0
    return which[some], sums[some] / lengths[some, None]
