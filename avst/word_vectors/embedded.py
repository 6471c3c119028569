"""The vectors that avst brings along: made from WordNet by scripts/embedded_word_vectors.py (docs/word_vectors.md).

A word's vector is what it means and what it is, so that two names are alike for words with like meanings and for words
in common, as they are with vectors of much text:

    vector = length · [ √meaning · stored row | √own · its own direction | √shared ],  meaning + own + shared = 1

The stored row, int8 / 127, is a word's meaning on few directions, so it is shorter than 1; what it lacks is the word's
own. Its own direction is made of its spelling (256 signs of a hash), so it takes no place here. An inflected form
has its lemma's row, and an own direction that it shares with its lemma in part; so has a young animal with the grown
one. A word that is two words of the file written as one ("firetruck") is their mean. Words that the file does not have
are left out of a name.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterable, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from avst.errors import AvstError
from avst.word_vectors.forms import PARTS, lemmas_of

FILE = Path(__file__).with_name("wordnet.npz")
OWN_DIMENSIONS = 256
WHOLE = 127  # a stored number that stands for 1
_LEAST_PART, _LONGEST = 3, 24  # letters of a part, and of a word that is taken apart


class Mixture(NamedTuple):
    """meaning + own + shared = 1, the shares of a vector's squared length;  lemma: how much of a form's own direction
    is its lemma's, and of a young animal's the animal's;  number: how much of the rest all forms of its kind share
    (plurals);  tau: see Source."""

    meaning: float
    own: float
    shared: float
    lemma: float
    number: float
    tau: float


class EmbeddedVectors:
    """A Source over the file in the package. Places are row + n_words · (0, or 1 + the part of speech of a form), and
    from 4 · n_words on two rows for a word of two parts."""

    def __init__(self, path: Path = FILE) -> None:
        self.name = "the vectors in avst" if path == FILE else str(path)
        self.path = path
        try:
            with np.load(path, allow_pickle=False) as file:
                self._meaning: np.ndarray = file["meaning"]  # int8 (n, d)
                self._lengths: np.ndarray = file["lengths"].astype(np.float32)
                self.mixture = Mixture(*file["mixture"].tolist())
                self._kin: dict[int, int] = dict(file["kin"].tolist())  # row -> row
                words = file["words"].tobytes().decode("ascii").split("\n")
                exceptions = file["exceptions"].tobytes().decode("ascii").split("\n")
        except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise AvstError(f"{path}: damaged word vectors: {error}") from error
        self.words = words
        self._n = len(words)
        self._row = dict(zip(words, range(self._n), strict=True))
        self._exceptions = {form: int(place) for form, place in (line.split(" ") for line in exceptions if line)}
        self.tau = self.mixture.tau
        self.dimensions = self._meaning.shape[1] + OWN_DIMENSIONS + 1
        self._place = lru_cache(maxsize=1 << 15)(self._find)

    def __reduce__(self) -> tuple[type[EmbeddedVectors], tuple[Path]]:
        return EmbeddedVectors, (self.path,)

    def find(self, words: Iterable[str]) -> dict[str, int]:
        places: dict[str, int] = {}
        for word in words:
            place = self._row.get(word)
            if place is None:
                place = self._place(word) if len(word) <= _LONGEST else None
            if place is not None:
                places[word] = place
        return places

    def rows(self, places: Sequence[int]) -> np.ndarray:
        distinct = list(dict.fromkeys(places))
        number = {place: i for i, place in enumerate(distinct)}
        table = self._vectors(distinct)
        return table[[number[place] for place in places]]

    # ---- one word ---------------------------------------------------------------------------------------------------

    def _find(self, word: str) -> int | None:
        found = self._form(word)
        if found is not None or not word.isascii() or not word.isalpha():
            return found
        best: tuple[float, int] | None = None
        for at in range(_LEAST_PART, len(word) - _LEAST_PART + 1):
            left = self._row.get(word[:at])
            right = None if left is None else self._form(word[at:])
            if left is not None and right is not None:
                rarity = float(self._lengths[left] + self._lengths[right % self._n])
                if best is None or rarity < best[0]:
                    best = rarity, 4 * self._n + left * 4 * self._n + right
        return None if best is None else best[1]

    def _form(self, word: str) -> int | None:
        """The place of a word or of an inflected form of one."""
        if word in self._row:
            return self._row[word]
        if word in self._exceptions:
            return self._exceptions[word]
        for lemma, part in lemmas_of(word):
            if lemma in self._row:
                return self._row[lemma] + self._n * (1 + PARTS.index(part))
        return None

    # ---- many vectors -----------------------------------------------------------------------------------------------

    def _vectors(self, places: Sequence[int]) -> np.ndarray:
        """float32 (n, dimensions)."""
        first = np.array([self._parts(place)[0] for place in places], dtype=np.intp)
        last = np.array([self._parts(place)[-1] for place in places], dtype=np.intp)
        vectors = self._plain(first)
        two = np.flatnonzero(first != last)
        if len(two):
            vectors[two] = (vectors[two] + self._plain(last[two])) / 2
        return vectors

    def _parts(self, place: int) -> tuple[int, ...]:
        whole = 4 * self._n
        return (place,) if place < whole else divmod(place - whole, whole)

    def _own(self, row: int) -> np.ndarray:
        """float32 (256,), about 1 long: the word's direction, a young animal's in part the animal's ("puppy")."""
        own, kin = direction(self.words[row]), self._kin.get(row)
        if kin is None:
            return own
        share = self.mixture.lemma
        return np.float32(np.sqrt(share)) * direction(self.words[kin]) + np.float32(np.sqrt(1 - share)) * own

    def _plain(self, places: np.ndarray) -> np.ndarray:
        """float32 (n, dimensions) of words and forms that are not taken apart."""
        mix, d = self.mixture, self._meaning.shape[1]
        row, form = places % self._n, places // self._n
        vectors = np.empty((len(places), self.dimensions), dtype=np.float32)
        vectors[:, :d] = np.sqrt(mix.meaning) * (self._meaning[row].astype(np.float32) / np.float32(WHOLE))
        own_lengths = np.sqrt(mix.own + mix.meaning - (vectors[:, :d] ** 2).sum(axis=1))
        for i, (r, f) in enumerate(zip(row.tolist(), form.tolist(), strict=True)):
            own = self._own(r)
            if f:
                kind = direction(f"+{PARTS[f - 1]}")
                rest = np.sqrt(mix.number) * kind + np.sqrt(1 - mix.number) * direction(
                    f"{self.words[r]}+{PARTS[f - 1]}"
                )
                own = np.sqrt(mix.lemma) * own + np.sqrt(1 - mix.lemma) * rest
            vectors[i, d:-1] = own_lengths[i] * own
        vectors[:, -1] = np.sqrt(mix.shared)
        return vectors * self._lengths[row, None]


def direction(text: str) -> np.ndarray:
    """float32 (256,) of length 1: the signs are the bits of a hash. Two texts' directions are nearly at right angles:
    their cosine is 0 on average, its standard deviation 1/16."""
    bits = np.unpackbits(
        np.frombuffer(hashlib.blake2b(text.encode(), digest_size=OWN_DIMENSIONS // 8).digest(), np.uint8)
    )
    return (bits.astype(np.float32) * 2 - 1) / np.float32(np.sqrt(OWN_DIMENSIONS))


@cache
def embedded() -> EmbeddedVectors:
    """Read once a process."""
    return EmbeddedVectors()
