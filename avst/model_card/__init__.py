"""The card of a saved model (README.md in the Hub's form): what it was made of, what it was measured on, what not.

facts (what a run knows of itself) -> render (Markdown, every text escaped) -> writer (beside the weights, while
training and after an evaluation).
"""
