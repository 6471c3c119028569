"""Skip-gram (gensim's Word2Vec) over the sentences of WordNet."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np

_STOP_WORDS = """
a an the of or and to in that is for with by as on be it he she his her at from was are this which not they who has were
have i you an one do its their but if than your my we him them what when some no
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())
DIMENSIONS, WINDOW, NEGATIVE, LEAST, SAMPLE = 100, 5, 5, 2, 1e-4


def train(sentences: list[list[str]], words: Sequence[str], epochs: int, seed: int) -> np.ndarray:
    """float32 (n words, 100), a row of zeros for a word of no sentence.

    The same on every run of one machine: one worker thread, a seed, and gensim hashes no strings for its first values.
    """
    from gensim.models import Word2Vec

    shuffled = list(sentences)
    random.Random(seed).shuffle(shuffled)
    model = Word2Vec(
        shuffled,
        sg=1,
        vector_size=DIMENSIONS,
        window=WINDOW,
        negative=NEGATIVE,
        min_count=LEAST,
        sample=SAMPLE,
        epochs=epochs,
        workers=1,
        seed=seed,
    )
    rows = np.zeros((len(words), DIMENSIONS), dtype=np.float32)
    for i, word in enumerate(words):
        if word in model.wv:
            rows[i] = model.wv[word]
    return rows
