"""What WordNet says a word is: its senses and all that is above them, as a sparse row; and dense, shorter rows.

The weight of a synset in a word's row is the sense's likelihood, times that of the way to it, times how telling
the synset is: most of all those that stand for some words, not for one (the word itself has its own direction) and
not for thousands ("artifact").
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_matrix

from scripts.wordnet_vectors.vocabulary import Senses
from scripts.wordnet_vectors.wordnet import SynsetId, WordNet


class RelationOptions(NamedTuple):
    """Chosen on the choosing half. likelihood: exponent of the likelihood of a sense;  visible: factor of senses that
    can be seen (things, beings, colours);  step: factor a step up;  telling, narrow, wide: the log mass at which a
    synset tells most, and the spread below and above;  the rest: factors of the ways from a sense to another."""

    likelihood: float = 0.8
    visible: float = 2.0
    step: float = 0.9
    telling: float = 5.2
    narrow: float = 1.5
    wide: float = 1.25
    derived: float = 0.4
    part: float = 0.3
    antonym: float = 0.5
    attribute: float = 0.35
    similar: float = 0.15
    topic: float = 0.15


_WAYS = {
    "n": {
        **{"+": "derived", "#p": "part", "%p": "part", "#m": "part", "%m": "part"},
        **{"!": "antonym", "=": "attribute", ";c": "topic"},
    },
    "a": {"&": "similar", "=": "attribute", "\\": "derived", "+": "derived", "!": "antonym"},
    "v": {"+": "derived", "$": "similar", "!": "antonym"},
    "r": {"\\": "derived"},
}


class Relations:
    """WordNet's synsets, what is above each, and how many words stand below it (its mass, in senses)."""

    def __init__(self, wordnet: WordNet, senses: Senses) -> None:
        self.wordnet, self.senses = wordnet, senses
        self.above: dict[SynsetId, dict[SynsetId, int]] = {}
        mass: dict[SynsetId, float] = defaultdict(float)
        for rows in senses.values():
            for synset, likelihood in rows:
                for ancestor in self.ancestors(synset):
                    mass[ancestor] += likelihood
        self.mass = mass
        self.physical = next(s for s, v in wordnet.synsets.items() if s.part == "n" and v.words[0] == "physical_entity")
        chromatic = next(s for s, v in wordnet.synsets.items() if v.words[0] == "chromatic_color")
        self.colour = self._parents(chromatic)[0]

    def ancestors(self, synset: SynsetId) -> dict[SynsetId, int]:
        """The synset and all its hypernyms -> steps up, the fewest."""
        if synset not in self.above:
            steps = {synset: 0}
            front = [synset]
            while front:
                further = []
                for low in front:
                    for high in self._parents(low):
                        if high not in steps:
                            steps[high] = steps[low] + 1
                            further.append(high)
                front = further
            self.above[synset] = steps
        return self.above[synset]

    def _parents(self, synset: SynsetId) -> list[SynsetId]:
        return [p.synset for p in self.wordnet.synsets[synset].pointers if p.symbol in ("@", "@i")]

    def _visible(self, synset: SynsetId) -> bool:
        above = self.ancestors(synset)
        if self.physical in above or self.colour in above:
            return True
        pointers = self.wordnet.synsets[synset].pointers if synset.part == "a" else ()
        return any(p.symbol in "+=" and self.colour in self.ancestors(p.synset) for p in pointers)

    def _ways(self, lemma: str, synset: SynsetId, options: RelationOptions) -> list[tuple[SynsetId, float]]:
        """The sense itself and what is related to it, each with a factor."""
        found = self.wordnet.synsets[synset]
        ways = [(synset, 1.0)]
        for pointer in found.pointers:
            way = _WAYS[synset.part].get(pointer.symbol)
            if way and (pointer.source == 0 or found.words[pointer.source - 1].lower() == lemma):
                ways.append((pointer.synset, getattr(options, way)))
        return ways

    def rows(self, words: Sequence[str], options: RelationOptions) -> csr_matrix:
        """float64 (n words, n synsets), rows of length 1 (0 for a word that WordNet does not have)."""
        column: dict[SynsetId, int] = {}
        at_row, at_column, weights = [], [], []
        for i, word in enumerate(words):
            row: dict[SynsetId, float] = defaultdict(float)
            for synset, likelihood in self.senses.get(word, ()):
                start = likelihood**options.likelihood * (options.visible if self._visible(synset) else 1.0)
                for other, factor in self._ways(word, synset, options):
                    for ancestor, steps in self.ancestors(other).items():
                        row[ancestor] += start * factor * options.step**steps
            at_row += [i] * len(row)
            at_column += [column.setdefault(synset, len(column)) for synset in row]
            weights += row.values()
        log_mass = np.log([max(self.mass[synset], 0.5) for synset in column])
        away = log_mass - options.telling
        telling = np.exp(-((away / np.where(away < 0, options.narrow, options.wide)) ** 2) / 2)
        matrix = csr_matrix((np.array(weights) * telling[at_column], (at_row, at_column)), (len(words), len(column)))
        lengths = _lengths(matrix)
        return csr_matrix(matrix.multiply(1 / np.maximum(lengths, 1e-12)[:, None]))


def _lengths(matrix: csr_matrix) -> np.ndarray:
    return np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())


def reduce(matrix: csr_matrix, d: int, weights: np.ndarray, seed: int) -> np.ndarray:
    """float64 (n, d): the rows on the d directions that hold most of them, rows counted by `weights` (randomised SVD,
    Halko et al. 2011, two power iterations)."""
    heavy = csr_matrix(matrix.multiply(weights[:, None]))
    basis = heavy @ np.random.default_rng(seed).standard_normal((matrix.shape[1], d + 20))
    for _ in range(2):
        basis = heavy @ (heavy.T @ np.linalg.qr(basis)[0])
    across = heavy.T @ np.linalg.qr(basis)[0]
    _, turn = np.linalg.eigh(across.T @ across)
    axes = across @ turn[:, ::-1][:, :d]
    return np.asarray(matrix @ (axes / np.linalg.norm(axes, axis=0)))
