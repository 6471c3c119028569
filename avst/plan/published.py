"""The published models' dimensions, so that a plan needs no network: those of the Hub's config.json files.

tests/plan/test_published.py holds their parameters against the counts that the Hub states. transformers alone is needed
(scripts/bench_gpu.py builds its models from here on machines that have little else).
"""

from __future__ import annotations

import re
from typing import Any

TEXT_FIELDS = (
    *("hidden_size", "intermediate_size", "num_hidden_layers"),
    *("num_attention_heads", "num_key_value_heads", "vocab_size"),
)
TEXT = {
    "3b": (2048, 11_008, 36, 16, 2, 151_936),
    "7b": (3584, 18_944, 28, 28, 4, 152_064),
    "32b": (5120, 27_648, 64, 40, 8, 152_064),
    "72b": (8192, 29_568, 80, 64, 8, 152_064),
}
VISION = {"depth": 32, "hidden_size": 1280, "num_heads": 16, "fullatt_block_indexes": [7, 15, 23, 31]}
VISION_WIDTH = {"3b": 3420, "7b": 3420, "32b": 3456, "72b": 3456}
SIZES = {"vl": ("3b", "7b", "32b", "72b"), "omni": ("3b", "7b")}
NAME = re.compile(r"qwen2[._-]5[_-](vl|omni)[_-](\d+)b(?:-instruct)?", re.IGNORECASE)


def published(path: str) -> Any | None:
    """The config of a published model by its name, such as Qwen/Qwen2.5-VL-7B-Instruct or any folder that is called
    so; None for others. An Omni's is its thinker's: the talker is never loaded."""
    match = NAME.fullmatch(path.rstrip("/").rpartition("/")[2])
    if match is None:
        return None
    family, size = match[1].lower(), f"{match[2]}b"
    return config(family, size) if size in SIZES[family] else None


def config(family: str, size: str) -> Any:
    """family: "vl" or "omni";  size: of SIZES."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5OmniThinkerConfig

    text: dict[str, Any] = dict(zip(TEXT_FIELDS, TEXT[size], strict=True))
    text |= {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]}}
    width = text["hidden_size"]
    vision = {**VISION, "intermediate_size": VISION_WIDTH[size], "out_hidden_size": width}
    tied = family == "vl" and size == "3b"
    options: dict[str, Any] = {"text_config": text | {"tie_word_embeddings": tied}, "vision_config": vision}
    options |= {"dtype": "bfloat16", "tie_word_embeddings": tied}
    if family == "vl":
        return Qwen2_5_VLConfig(**options)
    return Qwen2_5OmniThinkerConfig(**options, audio_config={"output_dim": width})
