"""What differs between the model families, and nothing else: classes, towers, placeholder tokens, positions, box
space.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.configuration_utils import PretrainedConfig

from avst.errors import AvstError
from avst.types import Prompt


@dataclass(frozen=True, slots=True)
class Family:
    """One line of the table below.

    model_class: the class in transformers;  hears: whether it takes audio;  thousand: boxes are spoken in 0..1000
    (Qwen3) instead of pixels of the frame the model saw (Qwen2.5);  vllm_prefix: what stands before the names of this
    class's checkpoints in the checkpoints that vLLM loads (a thinker's in those of the whole Omni model).
    """

    model_class: str
    hears: bool = False
    thousand: bool = False
    vllm_prefix: str = ""


FAMILIES = {
    "qwen2_5_vl": Family("Qwen2_5_VLForConditionalGeneration"),
    "qwen2_5_omni": Family("Qwen2_5OmniThinkerForConditionalGeneration", hears=True, vllm_prefix="thinker."),
    "qwen2_5_omni_thinker": Family("Qwen2_5OmniThinkerForConditionalGeneration", hears=True, vllm_prefix="thinker."),
}


def family_of(config: PretrainedConfig) -> Family:
    """The family of a model's config; AvstError names the families avst knows."""
    if config.model_type not in FAMILIES:
        raise AvstError(f"model type {config.model_type!r} is not supported; one of {', '.join(FAMILIES)}")
    return FAMILIES[config.model_type]


def model_class(config: PretrainedConfig) -> type[PreTrainedModel]:
    return getattr(transformers, family_of(config).model_class)


def unwrapped(model: nn.Module) -> Any:
    """The transformers model inside wrappers (DDP, DeepSpeed, FSDP, torch.compile, peft)."""
    while True:
        for name in ("module", "_orig_mod"):
            if isinstance(inner := getattr(model, name, None), nn.Module):
                model = inner
                break
        else:
            base = getattr(model, "get_base_model", None)
            return base() if callable(base) else model


def towers(model: PreTrainedModel) -> dict[str, list[nn.Module]]:
    """The parts that a recipe may freeze by name. `connector` is what maps a tower into the language model's space.

    vision and audio come without their connectors; a family without ears has an empty audio list.
    """
    inner = model.model
    ears = getattr(inner, "audio_tower", None)
    vision = [child for name, child in inner.visual.named_children() if name != "merger"]
    audio = [child for name, child in ears.named_children() if name != "proj"] if ears is not None else []
    connector = [inner.visual.merger] + ([ears.proj] if ears is not None else [])
    return {
        "vision": vision,
        "audio": audio,
        "connector": connector,
        "language": [inner.language_model, model.lm_head],
    }


def placeholder_ids(config: PretrainedConfig) -> dict[str, int]:
    """Modality -> the token id that stands for one media token in a prompt."""
    names = {"image": "image_token_id", "video": "video_token_id", "audio": "audio_token_id"}
    found = {modality: getattr(config, name, None) for modality, name in names.items()}
    return {modality: token for modality, token in found.items() if token is not None}


@torch.no_grad()
def prompt_positions(model: Any, prompt: Prompt) -> Tensor:
    """Position ids of a prompt, int64 (3, P), computed once by the very method that `generate` calls.

    Seconds per grid, audio lengths and the interleaving of audio and video all enter here, so rollout and training
    cannot disagree about them.
    """
    if prompt.positions is None:
        ids = prompt.input_ids.reshape(1, -1)
        inputs = {**prompt.media, "input_ids": ids, "attention_mask": torch.ones_like(ids)}
        stale = model.model.rope_deltas
        prompt.positions = model._prepare_position_ids_for_generation(ids, inputs)[1:, 0]
        model.model.rope_deltas = stale  # the method leaves its offset on the model; nothing here reads it
    return prompt.positions
