"""How well vectors decide "the same object?" as GoogleNews does at 0.75, over pairs of R-AVST's object names.

A pair is positive from GoogleNews cosine 0.75 on, hard from 0.5, else easy. All pairs of a half count; hard and easy
ones are weighted so that each kind weighs as much as the positives: the expectation of F1's counts over samples of
equal thirds. Names, not pairs, are split: one half chooses, the other is for the figure that is stated.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from avst.word_vectors import GensimVectors, Source, WordVectors, normalise
from scripts.wordnet_vectors.sentences import Graph
from scripts.wordnet_vectors.skipgram import train
from scripts.wordnet_vectors.vocabulary import choose_words, word_senses
from scripts.wordnet_vectors.wordnet import WordNet

SAME, RELATED = 0.75, 0.5  # GoogleNews cosines
THRESHOLDS = np.round(np.arange(0.30, 0.96, 0.01), 2)


class Half(NamedTuple):
    """Names of one half and the pairs of them: google float64 (N, N), GoogleNews' cosines."""

    names: list[str]
    google: np.ndarray


class Scores(NamedTuple):
    """Fractions. Example: Scores(f1=0.9, recall=0.92, hard=0.15, easy=0.01): 15% of the hard pairs taken for same."""

    f1: float
    recall: float
    hard: float
    easy: float


def split_by_name(path: Path) -> tuple[Half, Half]:
    """(choosing, held out). Names without a vector are left out, and which half a name is in says its own hash."""
    from gensim.models import KeyedVectors

    vectors = KeyedVectors.load_word2vec_format(str(path), binary=True)
    lengths = np.linalg.norm(vectors.vectors, axis=1)
    units = vectors.vectors / np.maximum(lengths, 1e-9)[:, None]
    halves = []
    for bit in (0, 1):
        chosen = [
            i
            for i, name in enumerate(vectors.index_to_key)
            if lengths[i] > 0 and normalise(name) and hashlib.sha256(name.encode()).digest()[0] & 1 == bit
        ]
        part = units[chosen].astype(np.float64)
        halves.append(Half([vectors.index_to_key[i].replace("_", " ") for i in chosen], part @ part.T))
    return halves[0], halves[1]


def scores_of(same: np.ndarray, google: np.ndarray) -> Scores:
    """same: bool (N, N), what is said of each pair."""
    above = np.triu_indices(len(google), 1)
    said, cosine = same[above], google[above]
    positive, easy = cosine >= SAME, cosine < RELATED
    recall = float(said[positive].mean())
    hard, simple = float(said[~positive & ~easy].mean()), float(said[easy].mean())
    return Scores(2 * recall / (recall + 1 + hard + simple), recall, hard, simple)


def best_threshold(similarity: np.ndarray, google: np.ndarray) -> tuple[float, Scores]:
    """The threshold of the highest F1 on a hundredth, and its scores."""
    every = [(float(tau), scores_of(similarity >= tau, google)) for tau in THRESHOLDS]
    return max(every, key=lambda row: row[1].f1)


def shares_a_word(names: Sequence[str]) -> np.ndarray:
    """bool (N, N): the two names have a word in common."""
    sets = [set(normalise(name).split()) for name in names]
    return np.array([[bool(a & b) for b in sets] for a in sets])


def equal_names(names: Sequence[str]) -> np.ndarray:
    written = np.array([normalise(name) for name in names])
    return written[:, None] == written[None, :]


def walk_only(wordnet: WordNet, n: int, epochs: int, seed: int) -> WordVectors:
    """Skip-gram over n random walks and nothing else, as found in the literature; its tau is chosen by the table."""
    from gensim.models import KeyedVectors

    senses = word_senses(wordnet)
    words = choose_words(wordnet, senses, {}, len(senses))
    rows = train(list(Graph(wordnet, senses, words).walks(n, seed)), words, epochs, seed)
    vectors = KeyedVectors(vector_size=rows.shape[1])
    vectors.add_vectors(words, rows)
    return WordVectors(GensimVectors(vectors, "random walks"))


def print_table(title: str, half: Half, choosing: Half, words: WordVectors, others: dict[str, WordVectors]) -> None:
    """F1 and its parts for `words` at its own tau, for others at their best threshold of `choosing`, and for rules."""
    above = half.google[np.triu_indices(len(half.names), 1)]
    hard = int(((above >= RELATED) & (above < SAME)).sum())
    print(f"\n{title}: {len(half.names)} names, {int((above >= SAME).sum())} positive pairs, {hard} hard ones")
    print(f"{'':30}{'F1':>7}{'recall':>8}{'hard':>7}{'easy':>8}")
    rows = {f"vectors in avst, tau {words.tau:g}": words.similarities(half.names, half.names)[0] >= words.tau}
    for name, other in others.items():
        tau, _ = best_threshold(other.similarities(choosing.names, choosing.names)[0], choosing.google)
        rows[f"{name}, tau {tau:g}"] = other.similarities(half.names, half.names)[0] >= tau
    rows["shares a word"] = shares_a_word(half.names)
    rows["equal names"] = equal_names(half.names)
    for name, same in rows.items():
        scores = scores_of(same, half.google)
        print(f"{name:30}{scores.f1:7.3f}{scores.recall:8.3f}{scores.hard:7.3f}{scores.easy:8.4f}")


def human_judgements(source: Source) -> dict[str, tuple[float, int]]:
    """Spearman's rank correlation with two lists of judgements that gensim brings, and of how many pairs."""
    from gensim.test.utils import datapath
    from scipy.stats import spearmanr

    words = WordVectors(source)
    found = {}
    for name in ("wordsim353.tsv", "simlex999.txt"):
        rows = [line.split("\t") for line in Path(datapath(name)).read_text(encoding="utf-8").splitlines()]
        rows = [row for row in rows if len(row) == 3 and not row[0].startswith("#")]
        rows = [row for row in rows if len(source.find([row[0].lower(), row[1].lower()])) == 2]
        ours = [words.similarity(a, b) for a, b, _ in rows]
        found[name] = (float(spearmanr(ours, [float(value) for _, _, value in rows]).statistic), len(rows))
    return found
