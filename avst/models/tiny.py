"""Tiny models of the Qwen families, made offline from configuration and saved as ordinary checkpoints.

A folder made here holds what a real checkpoint holds (config.json, model.safetensors, tokenizer.json, the processor's
config, the chat template), so the code that runs on it is the code that runs on the 7B models.

What differs from the real models: size, vocabulary, and the deal of the rotary frequencies. A head of 32 dimensions
has 16 of them. In the real layout time takes the highest, height the next, width the lowest: at theta 1e6 two
neighbouring columns then differ by 2e-4 radians at most, and no tiny model sees where a thing stands. Here the axes
take turns: in 300 steps of "where is the square" at 112 px the left edge was learned to 9 px, in the real layout
(theta 1e4 or 1e6) to 22-24 px, no better than guessing.
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
from avst.models.tiny_weights import draw_weights

PATCH, MERGE, TEMPORAL_PATCH = 14, 2, 2  # the real ones, so that frame sizes follow the real rules
AUDIO_RATE = 16000
SECONDS_PER_CHUNK = 2
MEL_BINS = 64


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
    audio_tokens_per_second: int = 25,
    max_audio_s: int = 64,
    numbers: int = 0,
    ready_to_learn: bool = False,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Path:
    """Write a tiny checkpoint of `kind` ("qwen2_5_vl", or "qwen2_5_omni": the thinker) to folder `out`; return it.

    The same arguments give the same weights, whatever was drawn before; the global random state is left as it was.

    audio_tokens_per_second: audio token i stands at time position i, so this must be the processor's
        `position_id_per_seconds`, else audio and video are interleaved wrongly. Its default, 25, is not saved with a
        processor: with another rate, set that attribute after loading.
    max_audio_s: the feature extractor pads to this length and cuts what is longer (R-AVST's longest clip has 60.03 s).
    numbers: whole numbers below it have a token each (0: a token a digit, as in the released models).
    ready_to_learn: draw weights from which so small a model learns many times faster (avst/models/tiny_weights.py)
        instead of the library's own.

    Raises:
        AvstError: an unknown kind, or sizes that do not divide.
    """
    if kind not in KINDS:
        raise AvstError(f"no tiny model of kind {kind!r}; one of {', '.join(KINDS)}")
    _check_sizes(hidden, heads, kv_heads, vision_hidden, audio_hidden, audio_tokens_per_second)
    family = KINDS[kind]
    tokenizer = train_tokenizer(family, numbers=numbers)
    text = _text_config(tokenizer, hidden, layers, heads, kv_heads, rope_theta)
    vision = _vision_config(vision_hidden, vision_depth, hidden)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if family.audio is None:
            model, processor = _build_vl(family, tokenizer, text, vision)
        else:
            audio = _audio_config(audio_hidden, audio_layers, hidden, audio_tokens_per_second)
            model, processor = _build_omni(family, tokenizer, text, vision, audio, audio_tokens_per_second, max_audio_s)
    if ready_to_learn:
        draw_weights(model, [_id(tokenizer, str(n)) for n in range(numbers)], seed)
    model.generation_config = GenerationConfig(
        eos_token_id=[_id(tokenizer, "<|im_end|>"), _id(tokenizer, "<|endoftext|>")],
        pad_token_id=_id(tokenizer, "<|endoftext|>"),
    )
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    torch.nn.Module.to(model, dtype).save_pretrained(out)
    processor.save_pretrained(out)
    return out


def _check_sizes(
    hidden: int, heads: int, kv_heads: int, vision_hidden: int, audio_hidden: int, audio_tokens_per_second: int
) -> None:
    if hidden % (2 * heads) or heads % kv_heads:
        raise AvstError(f"tiny model: hidden={hidden} must divide by 2 x heads={heads}, heads by kv_heads={kv_heads}")
    for name, width in (("vision_hidden", vision_hidden), ("audio_hidden", audio_hidden)):
        if width % 8:
            raise AvstError(f"tiny model: {name}={width} must be a multiple of 8 (two heads, two axes, pairs)")
    if audio_tokens_per_second < 1 or AUDIO_RATE % (4 * audio_tokens_per_second):
        raise AvstError(f"tiny model: audio_tokens_per_second={audio_tokens_per_second} must divide {AUDIO_RATE // 4}")


def _id(tokenizer: Qwen2Tokenizer, token: str) -> int:
    """The one id of a token; AvstError where the tokenizer was trained without it."""
    found = tokenizer.get_vocab().get(token)
    if found is None:
        raise AvstError(f"tiny model: the tokenizer has no token {token!r}")
    return found


def _text_config(
    tokenizer: Qwen2Tokenizer, hidden: int, layers: int, heads: int, kv_heads: int, rope_theta: float
) -> dict[str, Any]:
    """The language model. `mrope_section` sums to head_dim / 2; its entries belong to time, height, width in turn."""
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
        "eos_token_id": _id(tokenizer, "<|im_end|>"),
        "pad_token_id": _id(tokenizer, "<|endoftext|>"),
        "tie_word_embeddings": False,
    }


def _vision_config(hidden: int, depth: int, out_hidden: int) -> dict[str, Any]:
    """The vision tower: windows of 4 x 4 merged patches, and the last block sees the whole frame."""
    return {
        "depth": depth,
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_heads": 2,
        "out_hidden_size": out_hidden,
        "patch_size": PATCH,
        "spatial_merge_size": MERGE,
        "temporal_patch_size": TEMPORAL_PATCH,
        "window_size": 4 * PATCH * MERGE,
        "fullatt_block_indexes": [depth - 1],
    }


def _audio_config(hidden: int, layers: int, out_hidden: int, tokens_per_second: int) -> dict[str, Any]:
    """The audio tower: halves the mel frames twice. A window is 2 x n_window mel frames, one chunk, as in the 7B."""
    return {
        "num_mel_bins": MEL_BINS,
        "encoder_layers": layers,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 2 * hidden,
        "d_model": hidden,
        "n_window": 4 * tokens_per_second * SECONDS_PER_CHUNK // 2,
        "output_dim": out_hidden,
    }


def _token_ids(family: Kind, tokenizer: Qwen2Tokenizer) -> dict[str, Any]:
    """The ids that the model's config must share with the tokenizer, under the names both families use."""
    return {
        "vision_start_token_id": _id(tokenizer, family.video[0]),
        "vision_end_token_id": _id(tokenizer, family.video[2]),
        "bos_token_id": None,
        "eos_token_id": _id(tokenizer, "<|im_end|>"),
        "pad_token_id": _id(tokenizer, "<|endoftext|>"),
    }


def _build_vl(
    family: Kind, tokenizer: Qwen2Tokenizer, text: dict[str, Any], vision: dict[str, Any]
) -> tuple[PreTrainedModel, ProcessorMixin]:
    config = Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision | {"tokens_per_second": 2},  # the released checkpoints' value
        image_token_id=_id(tokenizer, family.image[1]),
        video_token_id=_id(tokenizer, family.video[1]),
        tie_word_embeddings=False,
        **_token_ids(family, tokenizer),
    )
    processor = Qwen2_5_VLProcessor(
        _image_processor(), tokenizer, _video_processor(), chat_template=family.chat_template
    )
    return Qwen2_5_VLForConditionalGeneration(config), processor


def _build_omni(
    family: Kind,
    tokenizer: Qwen2Tokenizer,
    text: dict[str, Any],
    vision: dict[str, Any],
    audio: dict[str, Any],
    tokens_per_second: int,
    max_audio_s: int,
) -> tuple[PreTrainedModel, ProcessorMixin]:
    opening, placeholder, closing = family.audio or ("", "", "")
    config = Qwen2_5OmniThinkerConfig(
        text_config=text,
        vision_config=vision,
        audio_config=audio,
        image_token_index=_id(tokenizer, family.image[1]),
        video_token_index=_id(tokenizer, family.video[1]),
        audio_token_index=_id(tokenizer, placeholder),
        audio_start_token_id=_id(tokenizer, opening),
        audio_end_token_id=_id(tokenizer, closing),
        user_token_id=_id(tokenizer, "user"),
        position_id_per_seconds=tokens_per_second,
        seconds_per_chunk=SECONDS_PER_CHUNK,
        tie_word_embeddings=False,
        **_token_ids(family, tokenizer),
    )
    ears = WhisperFeatureExtractor(
        feature_size=MEL_BINS,
        sampling_rate=AUDIO_RATE,
        hop_length=AUDIO_RATE // (4 * tokens_per_second),
        chunk_length=max_audio_s,
        n_fft=1024,  # 64 ms: keeps 64 mel bands apart down to 100 Hz
        return_attention_mask=True,
    )
    processor = Qwen2_5OmniProcessor(
        _image_processor(), _video_processor(), ears, tokenizer, chat_template=family.chat_template
    )
    return Qwen2_5OmniThinkerForConditionalGeneration(config), processor


_SIZE = {"shortest_edge": 4 * 28 * 28, "longest_edge": 768 * 28 * 28}  # pixels, in spite of the names


def _image_processor() -> Qwen2VLImageProcessor:
    return Qwen2VLImageProcessor(size=_SIZE, patch_size=PATCH, temporal_patch_size=TEMPORAL_PATCH, merge_size=MERGE)


def _video_processor() -> Qwen2VLVideoProcessor:
    return Qwen2VLVideoProcessor(
        size=_SIZE,
        patch_size=PATCH,
        temporal_patch_size=TEMPORAL_PATCH,
        merge_size=MERGE,
        do_sample_frames=False,
        cap_pixels_per_frame=False,
    )
