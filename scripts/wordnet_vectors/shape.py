"""From what is known of words to the arrays of the file: one meaning of 100 small numbers, one length a word."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from avst.word_vectors.embedded import WHOLE
from avst.word_vectors.forms import FUNCTION_WORDS


class ShapeOptions(NamedTuple):
    """Chosen on the choosing half. skipgram: its share of a meaning, the relations have the rest;  whitened: 0 leaves
    skip-gram's directions as they are, 1 makes them equally long;  rarest: the length of a word that is never used, in
    units in which e times as much use makes a word 1 shorter;  function: factor of the length of a function word."""

    skipgram: float = 0.7
    whitened: float = 0.5
    rarest: float = 22.0
    function: float = 0.7


def whiten(vectors: np.ndarray, power: float) -> np.ndarray:
    """(n, d) -> (n, d): the mean taken away, each principal direction divided by its spread to `power`, rows of length
    1. (All-but-the-top, Mu and Viswanath 2018, but smoothly.) Rows of zeros stay."""
    some = np.linalg.norm(vectors, axis=1) > 0
    rows = vectors[some] / np.linalg.norm(vectors[some], axis=1)[:, None]
    rows = rows - rows.mean(axis=0)
    spread, axes = np.linalg.eigh(rows.T @ rows / len(rows))
    whitened = np.zeros(vectors.shape)
    whitened[some] = (rows @ axes) / np.maximum(spread, 1e-12) ** (power / 2)
    return _units(whitened)


def join(skipgram: np.ndarray, relations: np.ndarray, d: int, use: np.ndarray, options: ShapeOptions) -> np.ndarray:
    """int8 (n, d), in 127ths: both side by side, on the d directions that hold most of what is used most.

    What those directions do not hold is lost, so rows are shorter than 1.
    """
    both = [
        np.sqrt(options.skipgram) * whiten(skipgram, options.whitened),
        np.sqrt(1 - options.skipgram) * _units(relations),
    ]
    wide = np.concatenate(both, axis=1)
    heavy = wide * use[:, None]
    _, axes = np.linalg.eigh(heavy.T @ heavy)
    narrow = wide @ axes[:, : -d - 1 : -1]
    return np.round(WHOLE * narrow).astype(np.int8)


def lengths(words: Sequence[str], counts: dict[str, float], options: ShapeOptions) -> np.ndarray:
    """float32 (n,): shorter for what is used more, as in vectors of much text; 1 for what is never used."""
    logs = np.log1p([counts.get(word, 0.0) for word in words])
    factors = np.array([options.function if word in FUNCTION_WORDS else 1.0 for word in words])
    return (factors * np.maximum(options.rarest - logs, 1.0) / options.rarest).astype(np.float32)


def _units(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
