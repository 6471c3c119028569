"""What scripts/embedded_word_vectors.py is made of: WordNet's files -> the vectors that avst ships."""
