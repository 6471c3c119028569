"""Towers under DeepSpeed and FSDP2: every process calls them as often and in the same order, whatever its clips are.

Where weights are shared out (ZeRO-3, FSDP2) each call of a tower gathers them from all processes. Where gradients are
(ZeRO-1 and 2), DeepSpeed fills a bucket with them in the order in which the backward pass makes them, and sums the
buckets of all processes as they are: a process with another order would have its gradients added to other parameters',
and nothing would say so.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import PreTrainedModel

# mel frames of the shortest sound that becomes a token: one convolution and one pooling halve them
AUDIO_FRAMES = 4


def in_lockstep(model: PreTrainedModel) -> bool:
    """Whether this model is trained by such an engine (the trainer says so)."""
    return bool(getattr(model, "lockstep", False))


def most_calls(calls: list[int], device: torch.device) -> list[int]:
    """For each modality the highest number of calls that a process will make."""
    most = torch.tensor(calls, device=device)
    torch.distributed.all_reduce(most, torch.distributed.ReduceOp.MAX)
    return most.tolist()


def blank_media(model: PreTrainedModel, modality: str) -> tuple[Tensor, Tensor]:
    """The least that an encoder of this modality (avst.models.features) takes, all zeros: one token's worth."""
    config = getattr(model.config, "thinker_config", model.config)
    if modality == "audio":
        mels = config.audio_config.num_mel_bins
        return torch.zeros(1, mels, AUDIO_FRAMES), torch.ones(1, AUDIO_FRAMES, dtype=torch.long)
    vision = config.vision_config
    side = vision.spatial_merge_size
    patch = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
    return torch.zeros(side * side, patch), torch.tensor([[1, side, side]])
