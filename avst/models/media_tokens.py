"""What a prompt's tokens stand for, and the sound as the model is given it: for people who want to look."""

from __future__ import annotations

from typing import Any

import numpy as np
from transformers.configuration_utils import PretrainedConfig

from avst.models.families import placeholder_ids
from avst.types import Prompt


def token_kinds(prompt: Prompt, config: PretrainedConfig) -> list[str]:
    """P words, one a token: "text", "video", "audio" or "image"."""
    of_id = {token: modality for modality, token in placeholder_ids(config).items()}
    return [of_id.get(int(token), "text") for token in prompt.input_ids]


def media_size(prompt: Prompt) -> tuple[int, int, int]:
    """(patches of the vision tower, those of a pair of frames, mel frames of the audio tower); 0 for what is absent."""
    patches = frame = 0
    if (grid := prompt.media.get("video_grid_thw", prompt.media.get("image_grid_thw"))) is not None:
        patches, frame = int(grid.prod(1).sum()), int(grid[0, 1:].prod())
    mask = prompt.media.get("feature_attention_mask")
    return patches, frame, 0 if mask is None else int(mask.sum())


def mel_features(prompt: Prompt, processor: Any) -> tuple[np.ndarray, float] | None:
    """(float32 (mel bands, n), seconds of one column) of the sound that the model is given; None without any."""
    features = prompt.media.get("input_features")
    if features is None:
        return None
    ears = processor.feature_extractor
    mask = prompt.media.get("feature_attention_mask")
    heard = int(mask.sum(-1).max()) if mask is not None else features.shape[-1]
    return features[0, :, :heard].float().numpy(), ears.hop_length / ears.sampling_rate
