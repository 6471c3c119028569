"""Tiny models of the Qwen families, made offline from configuration and saved as ordinary checkpoints.

A folder made here holds what a real checkpoint holds (config.json, model.safetensors, tokenizer.json, processor and template),
so the loading, prompting, training and saving code that runs on it is the code that runs on the 7B models.

What differs from the real models: size, vocabulary, the rate of audio tokens (10 a second, not 25), and the rotary
frequencies, which are dealt out to time, height and width in turn. A head of 32 dimensions has only 16 frequencies; in
the real layout (time, then height, then width) the width would get the lowest, and see hardly a hundredth of a turn
across the picture.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    GenerationConfig,
    PreTrainedModel,
    ProcessorMixin,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2_5OmniProcessor,
    Qwen2_5OmniThinkerConfig,
    Qwen2_5OmniThinkerForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
    WhisperFeatureExtractor,
)

from avst.errors import AvstError
from avst.models.tiny_kinds import KINDS, Kind
from avst.models.tiny_tokenizer import train_tokenizer

PATCH, MERGE = 14, 2
AUDIO_RATE, HOP, MEL_BINS = 16000, 400, 64
AUDIO_TOKENS_PER_SECOND = AUDIO_RATE // HOP // 4  # the tower halves the mel frames twice
SECONDS_PER_CHUNK = 2
MAX_AUDIO_SECONDS = 64  # R-AVST's longest clip has 60.03 s; what is longer would be cut by the feature extractor


def make_tiny(
    kind: str,
    out: Path,
    *,
    hidden: int = 128,
    layers: int = 4,
    heads: int = 4,
    kv_heads: int = 2,
    vision_hidden: int = 64,
    vision_depth: int = 2,
    audio_hidden: int = 64,
    audio_layers: int = 2,
    rope_theta: float = 1000.0,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Path:
    """Write a tiny checkpoint of `kind` ("qwen2_5_vl" or "qwen2_5_omni", the thinker alone) to folder `out`; return `out`.

    The same arguments give the same weights, whatever was drawn before; the global random state is left as it was.

    Raises:
        AvstError: an unknown kind, or sizes that do not divide.
    """
    if kind not in KINDS:
        raise AvstError(f"no tiny model of kind {kind!r}; known: {', '.join(KINDS)}")
    if hidden % (2 * heads) or heads % kv_heads:
        raise AvstError(f"hidden={hidden} must be a multiple of 2 * heads={heads}, heads of kv_heads={kv_heads}")
    family = KINDS[kind]
    tokenizer = train_tokenizer(family)
    text = _text_config(tokenizer, hidden, layers, heads, kv_heads, rope_theta)
    vision = _vision_config(vision_hidden, vision_depth, hidden)
    audio = _audio_config(audio_hidden, audio_layers, hidden)
    model = _build_model(family, tokenizer, text, vision, audio, seed, dtype)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(out)
    _processor(family, tokenizer).save_pretrained(out)
    return out


def _text_config(
    tokenizer: Qwen2Tokenizer, hidden: int, layers: int, heads: int, kv_heads: int, rope_theta: float
) -> dict[str, Any]:
    """The language model's configuration; `mrope_section` sums to head_dim / 2, its i-th entry belongs to axis i mod 3."""
    return {
        "vocab_size": -(-len(tokenizer) // 64) * 64,
        "hidden_size": hidden,
        "intermediate_size": 3 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "max_position_embeddings": 32768,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": rope_theta,
            "mrope_section": [1] * (hidden // heads // 2),
        },
        "bos_token_id": None,
        "eos_token_id": tokenizer.convert_tokens_to_ids("<|im_end|>"),
        "pad_token_id": tokenizer.convert_tokens_to_ids("<|endoftext|>"),
        "tie_word_embeddings": False,
    }


def _vision_config(hidden: int, depth: int, out_hidden: int) -> dict[str, Any]:
    """The vision tower's configuration: windows of 4 x 4 merged patches, the last block attends to a whole frame."""
    return {
        "depth": depth,
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_heads": 2,
        "out_hidden_size": out_hidden,
        "patch_size": PATCH,
        "spatial_merge_size": MERGE,
        "temporal_patch_size": 2,
        "window_size": 4 * PATCH * MERGE,
        "fullatt_block_indexes": [depth - 1],
    }


def _audio_config(hidden: int, layers: int, out_hidden: int) -> dict[str, Any]:
    """The audio tower's configuration. A window is 2 * n_window mel frames = SECONDS_PER_CHUNK, as in the real model."""
    return {
        "num_mel_bins": MEL_BINS,
        "encoder_layers": layers,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 2 * hidden,
        "d_model": hidden,
        "max_source_positions": 1500,
        "n_window": SECONDS_PER_CHUNK * AUDIO_RATE // HOP // 2,
        "output_dim": out_hidden,
    }


def _build_model(
    family: Kind,
    tokenizer: Qwen2Tokenizer,
    text: dict[str, Any],
    vision: dict[str, Any],
    audio: dict[str, Any],
    seed: int,
    dtype: torch.dtype,
) -> PreTrainedModel:
    """The model with seeded random weights and every token id of its config taken from the tokenizer."""

    def id_of(token: str) -> int:
        return tokenizer.convert_tokens_to_ids(token)

    ids: dict[str, Any] = {
        "image_token_id": id_of(family.image[1]),
        "video_token_id": id_of(family.video[1]),
        "vision_start_token_id": id_of(family.video[0]),
        "vision_end_token_id": id_of(family.video[2]),
        "bos_token_id": None,
        "eos_token_id": id_of("<|im_end|>"),
        "pad_token_id": id_of("<|endoftext|>"),
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: PreTrainedModel
        if family.audio is None:
            vision["tokens_per_second"] = 2
            model = Qwen2_5_VLForConditionalGeneration(
                Qwen2_5_VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=False, **ids)
            )
        else:
            ids["image_token_index"], ids["video_token_index"] = ids.pop("image_token_id"), ids.pop("video_token_id")
            config = Qwen2_5OmniThinkerConfig(
                text_config=text,
                vision_config=vision,
                audio_config=audio,
                audio_token_index=id_of(family.audio[1]),
                audio_start_token_id=id_of(family.audio[0]),
                audio_end_token_id=id_of(family.audio[2]),
                user_token_id=id_of("user"),
                position_id_per_seconds=AUDIO_TOKENS_PER_SECOND,
                seconds_per_chunk=SECONDS_PER_CHUNK,
                tie_word_embeddings=False,
                **ids,
            )
            model = Qwen2_5OmniThinkerForConditionalGeneration(config)
    model.generation_config = GenerationConfig(
        eos_token_id=[id_of("<|im_end|>"), id_of("<|endoftext|>")], pad_token_id=id_of("<|endoftext|>")
    )
    return model.to(dtype)


def _processor(family: Kind, tokenizer: Qwen2Tokenizer) -> ProcessorMixin:
    """The family's processor with the tiny model's sizes and its chat template."""
    patches = {"patch_size": PATCH, "temporal_patch_size": 2, "merge_size": MERGE}
    size = {"shortest_edge": 4 * 28 * 28, "longest_edge": 768 * 28 * 28}
    image = Qwen2VLImageProcessor(size=size, **patches)
    video = Qwen2VLVideoProcessor(size=size, do_sample_frames=False, cap_pixels_per_frame=False, **patches)
    if family.audio is None:
        return Qwen2_5_VLProcessor(image, tokenizer, video, chat_template=family.chat_template)
    ears = WhisperFeatureExtractor(
        feature_size=MEL_BINS,
        sampling_rate=AUDIO_RATE,
        hop_length=HOP,
        chunk_length=MAX_AUDIO_SECONDS,
        n_fft=1024,
        return_attention_mask=True,
    )
    processor = Qwen2_5OmniProcessor(image, video, ears, tokenizer, chat_template=family.chat_template)
    processor.position_id_per_seconds = AUDIO_TOKENS_PER_SECOND
    processor.seconds_per_chunk = float(SECONDS_PER_CHUNK)
    return processor
