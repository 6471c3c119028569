"""Synthetic audio-visual clips with exact annotations: training data, tests and the quickstart.

Data flows through these files in order: `settings` (how hard) -> `plan` (who is seen and heard when, from `world`'s
names) -> `motion` (boxes frame by frame) -> `render` (pixels) and `sound` (samples) -> `encode` (mp4), while
`questions` writes the gold answers from the very same boxes. `synthesise` does it for a folder of clips;
`from_annotations` renders clips for annotations that exist already.
"""
