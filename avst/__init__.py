"""avst: GRPO for audio-visual Video-LLMs, on questions about what sounds, when and where."""

__version__ = "0.1.0"
