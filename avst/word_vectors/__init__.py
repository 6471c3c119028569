"""Similarity of object names by averaged word vectors."""

from avst.word_vectors.names import normalise
from avst.word_vectors.similarity import WordVectors
from avst.word_vectors.source import GensimVectors, Source

__all__ = ["GensimVectors", "Source", "WordVectors", "normalise"]
