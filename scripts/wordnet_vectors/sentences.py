"""Sentences for skip-gram out of WordNet: random walks over its graph, and its glosses.

A walk (Goikoetxea et al., NAACL 2015) starts at a word, goes to one of its senses, and from synset to synset along
relations; where it stands it writes a word of the synset. Senses are drawn by how often they were tagged and by their
order, relations by kind.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from scripts.wordnet_vectors.vocabulary import Senses, spelled
from scripts.wordnet_vectors.wordnet import SynsetId, WordNet

_RELATION_WEIGHTS = {
    **{"@": 1.0, "@i": 0.5, "~": 1.0, "~i": 0.2},  # hypernym and hyponym, of classes and of instances
    **{"#m": 0.3, "#s": 0.5, "#p": 0.7, "%m": 0.3, "%s": 0.5, "%p": 0.7},  # the whole and its parts
    **{"+": 1.0, "&": 1.5, "=": 0.5, "^": 0.7, "$": 1.0, "*": 0.7, ">": 0.7, "\\": 1.0, "<": 0.7, "!": 0.5},
    **{";c": 0.3, ";r": 0.1, ";u": 0.05, "-c": 0.1, "-r": 0.05, "-u": 0.02},  # topic, region, usage
}
_DEFINED = 3  # words of a synset that its gloss is repeated for
_AT_ONCE = 50_000


class Graph:
    """Synsets and words as numbers, with cumulated probabilities of each step, so that many walks step at once."""

    def __init__(self, wordnet: WordNet, senses: Senses, starts: Sequence[str]) -> None:
        place = {synset: i for i, synset in enumerate(wordnet.synsets)}
        lemmas = list(senses)
        self.tokens = [spelled(lemma).split() for lemma in lemmas]
        number = {lemma: i for i, lemma in enumerate(lemmas)}
        self.starts = np.array([number[word] for word in starts if word in number])
        written: list[list[tuple[int, float]]] = [[] for _ in place]
        for lemma, rows in senses.items():
            for synset, probability in rows:
                written[place[synset]].append((number[lemma], probability))
        related = [
            [(place[p.synset], _RELATION_WEIGHTS[p.symbol]) for p in synset.pointers]
            for synset in wordnet.synsets.values()
        ]
        self.to_sense = _Steps([[(place[synset], p) for synset, p in senses[lemma]] for lemma in lemmas])
        self.to_word, self.to_synset = _Steps(written), _Steps(related)

    def walks(self, n: int, seed: int, stop: float = 0.15, longest: int = 12) -> Iterator[list[str]]:
        """Up to n walks of at least two words. They end after each step with probability `stop`."""
        draw = np.random.default_rng(seed)
        for first in range(0, n, _AT_ONCE):
            words = self.starts[draw.integers(len(self.starts), size=min(_AT_ONCE, n - first))]
            lines = [list(self.tokens[word]) for word in words.tolist()]
            at, alive = self.to_sense.step(words, draw), np.arange(len(words))
            for _ in range(longest):
                at = self.to_synset.step(at, draw)
                going = (at >= 0) & (draw.random(len(at)) >= stop)
                alive, at = alive[going], at[going]
                if not len(at):
                    break
                for line, word in zip(alive.tolist(), self.to_word.step(at, draw).tolist(), strict=True):
                    lines[line].extend(self.tokens[word])
            yield from (line for line in lines if len(line) > 1)


class _Steps:
    """From each of n places to one of its neighbours, drawn by weight."""

    def __init__(self, neighbours: list[list[tuple[int, float]]]) -> None:
        self.starts = np.concatenate([[0], np.cumsum([len(row) for row in neighbours])])
        self.to = np.array([place for row in neighbours for place, _ in row], dtype=np.int64)
        self.cumulated = np.concatenate([[0.0], np.cumsum([weight for row in neighbours for _, weight in row])])

    def step(self, at: np.ndarray, draw: np.random.Generator) -> np.ndarray:
        """int (n,) -> int (n,); -1 where a place has no neighbour."""
        first, end = self.starts[at], self.starts[at + 1]
        low, high = self.cumulated[first], self.cumulated[end]
        drawn = low + draw.random(len(at)) * (high - low)
        found = np.searchsorted(self.cumulated, drawn, side="right") - 1
        return np.where(end > first, self.to[np.clip(found, first, np.maximum(end - 1, first)) % len(self.to)], -1)


def gloss_sentences(wordnet: WordNet, glosses: dict[SynsetId, list[str]], left_out: frozenset[str]) -> list[list[str]]:
    """For each of a synset's first words: the word, then the lemmas of the gloss without those of `left_out`."""
    sentences = []
    for key, lemmas in glosses.items():
        content = [lemma for lemma in lemmas if lemma not in left_out]
        sentences += [spelled(word).split() + content for word in wordnet.synsets[key].words[:_DEFINED]]
    return sentences
