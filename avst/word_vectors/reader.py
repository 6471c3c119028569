"""How alike two object names are (Eq. 2): the cosine of the averaged vectors of their words.

A name is lower-cased, freed of apostrophes, other punctuation turned into spaces, freed of a/an/the. Vectors come
from a file in word2vec's binary or text format, read by gensim. Formats that run code when they are opened (pickles,
and what hides one: .npy, .kv, .model, .pt) are refused by their content, whatever they are called.
"""

from __future__ import annotations

import gzip
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from avst.errors import AvstError

if TYPE_CHECKING:
    from gensim.models import KeyedVectors

GOOGLENEWS_TAU = 0.75
_ARTICLES = frozenset({"a", "an", "the"})
_APOSTROPHES = "'’‘ʼ`´"
_HEAD_BYTES = 1 << 16


class _Spelling(dict[int, str | int | None]):
    """str.translate's table, filled as needed: apostrophes vanish, punctuation and symbols become spaces."""

    def __missing__(self, code: int) -> str | int | None:
        character = chr(code)
        if character in _APOSTROPHES:
            self[code] = None
        elif unicodedata.category(character)[0] in "PS":
            self[code] = " "
        else:
            self[code] = code
        return self[code]


_SPELLING = _Spelling()


def normalise(name: str) -> str:
    """The form in which names are compared: normalise("The man's T-shirt") == "mans t shirt"; "" if nothing is left."""
    return _without_articles(name.lower().translate(_SPELLING))


def _without_articles(spelled: str) -> str:
    if spelled.isalnum():
        return "" if spelled in _ARTICLES else spelled
    return " ".join([word for word in spelled.split() if word not in _ARTICLES])


class WordVectors:
    """Names to similarities. `tau`: from which similarity on two names are taken for the same thing.

    Without vectors (path None) equal names have similarity 1 and all others 0.
    """

    def __init__(self, vectors: KeyedVectors | None = None, tau: float = GOOGLENEWS_TAU, source: str = "none") -> None:
        if not 0.0 < tau <= 1.0:
            raise AvstError(f"word vectors: tau must be above 0 and at most 1, got {tau}")
        self.vectors = vectors
        self.tau = tau
        self.source = source

    @classmethod
    def load(cls, path: str | Path | None = None, tau: float | None = None) -> WordVectors:
        """Read a word2vec file (binary or text, optionally .gz). AvstError where it is absent, damaged or another
        format.

        tau: None takes GoogleNews' 0.75.
        """
        tau = GOOGLENEWS_TAU if tau is None else tau
        if path is None:
            return cls(None, tau)
        path = Path(path)
        binary = _is_binary(path)
        from gensim.models import KeyedVectors

        try:
            vectors = KeyedVectors.load_word2vec_format(str(path), binary=binary)
        except (OSError, EOFError, ValueError, UnicodeDecodeError, MemoryError) as error:
            raise AvstError(f"{path}: damaged word2vec file: {_one_line(error)}") from error
        return cls(vectors, tau, str(path))

    def similarity(self, a: str, b: str) -> float:
        """Cosine of two names, 1 for equal names, 0 where one is empty or has no vector."""
        return float(self.similarities([a], [b])[0][0, 0])

    def similarities(self, predicted: Sequence[str], gold: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """All pairs at once: (similarity float64 (P, M), equal bool (P, M)) for P predicted and M gold names."""
        rows = {name: row for row, name in enumerate(dict.fromkeys(predicted))}
        wanted = _normalise_all(gold)
        written = _normalise_all(list(rows))
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
        if self.vectors is None:
            return cosines
        columns, right = self._directions(wanted)
        if len(columns):
            rows, left = self._directions(written)
            cosines[np.ix_(rows, columns)] = np.clip(left @ right.T, -1.0, 1.0)
        return cosines

    def _directions(self, names: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Unit vectors (n, d) of the names that have one, and which names these are (n,). A zero vector is none."""
        assert self.vectors is not None
        index = self.vectors.key_to_index
        owners: list[int] = []
        words: list[int] = []
        for owner, name in enumerate(names):
            if " " not in name and name not in index:
                continue  # the quick way out: long lists of nonsense
            for word in name.split():
                if word in index:
                    owners.append(owner)
                    words.append(index[word])
        which, starts = np.unique(np.array(owners, dtype=np.intp), return_index=True)
        if not len(which):
            return which, np.zeros((0, self.vectors.vector_size))
        sums = np.add.reduceat(self.vectors.vectors[words].astype(np.float64), starts, axis=0)  # mean up to its length
        lengths = np.linalg.norm(sums, axis=1)
        if not np.isfinite(lengths).all():
            bad = names[which[np.flatnonzero(~np.isfinite(lengths))[0]]]
            raise AvstError(f"{self.source}: the vector of a word in {bad!r} is not finite")
        some = lengths > 0
        return which[some], sums[some] / lengths[some, None]


def _normalise_all(names: Sequence[str]) -> list[str]:
    """normalise for many names, where a name of which nothing is left ("the", "?") still equals itself.

    Such a name is kept behind a NUL, which no word of a vocabulary has; an empty one stays "".
    """
    spelled = [name.lower().translate(_SPELLING) for name in names]
    return [
        _without_articles(s) or (f"\0{name.strip().lower()}" if name.strip() else "")
        for s, name in zip(spelled, names, strict=True)
    ]


def _is_binary(path: Path) -> bool:
    """Look at the file before gensim does. True for word2vec's binary format, False for its text format."""
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
