"""Models of the published shapes with random weights, and prompts of random tokens: no download, no tokenizer.

The numbers are those of the published config.json files; the audio tower is transformers' default, which is the
published one but for its output width.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import (
    PreTrainedModel,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5OmniThinkerConfig,
    Qwen2_5OmniThinkerForConditionalGeneration,
)

from avst.models.features import media_features
from avst.models.policy import understand_groups
from avst.plan.published import VISION, VISION_WIDTH
from avst.types import Answer, Prompt, Question, Space

TEXT = {
    "7b": {
        "vocab_size": 152_064,
        "hidden_size": 3584,
        "intermediate_size": 18_944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
    },
    "3b": {
        "vocab_size": 151_936,
        "hidden_size": 2048,
        "intermediate_size": 11_008,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
    },
    "tiny": {
        "vocab_size": 512,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
}
TINY_VISION = {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "fullatt_block_indexes": [1]}
TINY_AUDIO = {"encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 64, "d_model": 32}
VIDEO_TOKEN, AUDIO_TOKEN, IMAGE_TOKEN = 500, 501, 502  # below every vocabulary here; random text stays below them
MODELS = ("vl-7b", "vl-3b", "omni-7b")


def build(name: str, device: str, dtype: torch.dtype) -> PreTrainedModel:
    """A model by name (MODELS, or "vl-tiny", "omni-tiny"), made on `device`, with avst's packed forward."""
    family, _, size = name.partition("-")
    text: dict[str, Any] = dict(TEXT[size])
    head = text["hidden_size"] // text["num_attention_heads"]
    text["rope_parameters"] = {
        "rope_type": "default",
        "rope_theta": 1e6,
        "mrope_section": [head // 8, head * 3 // 16, head * 3 // 16],
    }
    vision: dict[str, Any] = {"out_hidden_size": text["hidden_size"]}
    # transformers' own default for the vision tower's width is not the published one
    vision |= TINY_VISION if size == "tiny" else VISION | {"intermediate_size": VISION_WIDTH[size]}
    tied = size == "3b"
    if family == "vl":
        config: Any = Qwen2_5_VLConfig(
            text_config=text | {"tie_word_embeddings": tied},
            vision_config=vision,
            image_token_id=IMAGE_TOKEN,
            video_token_id=VIDEO_TOKEN,
            tie_word_embeddings=tied,
        )
        kind: Any = Qwen2_5_VLForConditionalGeneration
    else:
        audio = {"output_dim": text["hidden_size"]} | (TINY_AUDIO if size == "tiny" else {})
        config = Qwen2_5OmniThinkerConfig(
            text_config=text,
            vision_config=vision,
            audio_config=audio,
            image_token_index=IMAGE_TOKEN,
            video_token_index=VIDEO_TOKEN,
            audio_token_index=AUDIO_TOKEN,
        )
        kind = Qwen2_5OmniThinkerForConditionalGeneration
    config._attn_implementation = "sdpa"
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            model = kind(config)
    finally:
        torch.set_default_dtype(default)
    if tied:
        model.tie_weights()
    return understand_groups(model.eval())


def prompt(model: PreTrainedModel, visual_tokens: int, text_tokens: int, seconds: int = 40) -> Prompt:
    """A clip of `seconds` at 2 fps (a grid a second) with about `visual_tokens`, its sound where the model hears, and
    text."""
    config = model.config
    vision = config.vision_config
    merge = vision.spatial_merge_size
    side = max(1, round((visual_tokens / seconds) ** 0.5))
    grid = torch.tensor([[seconds, side * merge, side * merge]])
    patch = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(int(grid.prod()), patch, generator=generator)
    media: dict[str, Any] = {"pixel_values_videos": pixels, "video_grid_thw": grid}
    ids = [torch.full((seconds * side * side,), VIDEO_TOKEN)]
    if (audio := getattr(config, "audio_config", None)) is not None:
        frames = 100 * seconds
        media["input_features"] = torch.randn(1, audio.num_mel_bins, frames, generator=generator)
        media["feature_attention_mask"] = torch.ones(1, frames, dtype=torch.long)
        # the tower says how many tokens it makes of so many frames
        heard = _audio_tokens(model, media)
        ids.append(torch.full((heard,), AUDIO_TOKEN))
    ids.append(torch.randint(1, 400, (text_tokens,), generator=generator))
    question = Question("bench", "temporal", "-", "", float(seconds), gold=Answer(), gold_text="")
    made = Prompt(question, torch.cat(ids), media, Space((1, 1), (1, 1)))
    made.positions = torch.arange(len(made.input_ids)).expand(3, -1)  # any positions cost the same
    return made


@torch.no_grad()
def _audio_tokens(model: PreTrainedModel, media: dict[str, Any]) -> int:
    question = Question("bench", "temporal", "-", "", 0.0, gold=Answer(), gold_text="")
    probe = Prompt(question, torch.zeros(1), media, Space((1, 1), (1, 1)))
    return len(media_features(model, probe, "audio"))


def linear_parameters(model: PreTrainedModel) -> int:
    """Weights that every token of the language model is multiplied with (no embeddings, no head)."""
    return sum(p.numel() for p in model.model.language_model.layers.parameters() if p.dim() == 2)
