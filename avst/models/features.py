"""Media -> embeddings. Features of frozen towers are computed once a prompt and reused by rollout, policy and
reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from avst.models.families import placeholder_ids
from avst.types import Prompt


def media_features(model: PreTrainedModel, prompt: Prompt, modality: str) -> Tensor:
    """Embeddings of one modality of a prompt ("image", "video" or "audio"): (its tokens, D).

    What a tower without any trainable parameter makes is computed without gradient and kept on the prompt; the others
    run anew at each call, with gradient where it is on.
    """
    tower, encode = _encoders(model)[modality]
    if trainable(tower):
        return encode(prompt.media)
    if modality not in prompt.features:
        with torch.no_grad():
            prompt.features[modality] = encode(prompt.media)
    return prompt.features[modality]


def embed(model: PreTrainedModel, input_ids: Tensor, prompts: list[tuple[int, Prompt]]) -> Tensor:
    """Token embeddings (1, L, D) with each prompt's media written over its placeholders.

    prompts: (index of the prompt's first token in the row, prompt). Only positions inside a prompt are placeholders: a
    media token that the policy happened to sample in an answer keeps its own embedding.
    """
    embeds = model.get_input_embeddings()(input_ids)
    for modality, token in placeholder_ids(model.config).items():
        rows, places = [], []
        for start, prompt in prompts:
            here = (prompt.input_ids.reshape(-1).to(input_ids.device) == token).nonzero().squeeze(1)
            if here.numel() == 0:
                continue
            features = media_features(model, prompt, modality).to(embeds.device, embeds.dtype)
            if features.shape[0] != here.numel():
                raise ValueError(
                    f"{prompt.question.id}: {here.numel()} {modality} placeholders for {features.shape[0]} features"
                )
            rows.append(features)
            places.append(here + start)
        if rows:
            embeds = embeds.index_put((torch.zeros_like(torch.cat(places)), torch.cat(places)), torch.cat(rows))
    return embeds


def trainable(module: nn.Module) -> bool:
    return any(p.requires_grad for p in module.parameters())


def idle_towers(model: PreTrainedModel) -> Tensor | int:
    """Zero, tied by the graph to every trainable parameter of the towers.

    DDP waits for a gradient of every parameter on every rank: a rank whose clips have no sound would leave the others
    waiting, and one parameter of Omni's audio tower never gets a gradient. On one process nobody waits.
    """
    zero: Tensor | int = 0
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return zero
    for tower, _ in _encoders(model).values():
        for parameter in tower.parameters():
            if parameter.requires_grad:
                zero = zero + 0 * parameter.sum()
    return zero


def _encoders(model: PreTrainedModel) -> dict[str, tuple[nn.Module, Any]]:
    inner = model.model

    def video(media: Mapping[str, Any]) -> Tensor:
        pixels = media["pixel_values_videos"].to(model.device)
        grid = media["video_grid_thw"].to(model.device)
        return torch.cat(inner.get_video_features(pixels, grid, return_dict=True).pooler_output)

    def image(media: Mapping[str, Any]) -> Tensor:
        pixels, grid = media["pixel_values"].to(model.device), media["image_grid_thw"].to(model.device)
        return torch.cat(inner.get_image_features(pixels, grid, return_dict=True).pooler_output)

    def audio(media: Mapping[str, Any]) -> Tensor:
        # the tower casts nothing by itself, and the feature extractor always gives float32
        features = media["input_features"].to(model.device, model.dtype)
        mask = media["feature_attention_mask"].to(model.device)
        return inner.get_audio_features(features, mask, return_dict=True).last_hidden_state

    encoders: dict[str, tuple[nn.Module, Any]] = {"image": (inner.visual, image), "video": (inner.visual, video)}
    if getattr(inner, "audio_tower", None) is not None:
        encoders["audio"] = (inner.audio_tower, audio)
    return encoders
