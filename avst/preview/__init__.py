"""`avst dry-run`: one question through everything without training, and what the model is given of it."""
