"""Similarity of object names by averaged word vectors."""

from avst.word_vectors.embedded import EmbeddedVectors
from avst.word_vectors.names import normalise
from avst.word_vectors.similarity import EQUAL_NAMES, WordVectors
from avst.word_vectors.source import GensimVectors, Source

__all__ = ["EQUAL_NAMES", "EmbeddedVectors", "GensimVectors", "Source", "WordVectors", "normalise"]
