"""Similarity of object names by averaged word vectors."""

from avst.word_vectors.reader import WordVectors, normalise

__all__ = ["WordVectors", "normalise"]
