"""Media -> embeddings. Features of frozen towers are computed once a prompt and reused by rollout, policy and
reference; where the model has a `feature_store` (avst.models.feature_store), once a clip over prompts, epochs and runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from avst.models.families import placeholder_ids
from avst.models.feature_key import feature_key
from avst.models.feature_store import FeatureStore
from avst.models.lockstep import blank_media, in_lockstep, most_calls
from avst.types import Prompt


@dataclass(frozen=True, slots=True)
class Encoder:
    """How the features of a modality are made.

    inputs: what `encode` takes, by its names in the prompt's media: all that they depend on besides the tower.
    """

    tower: nn.Module
    inputs: tuple[str, ...]
    encode: Callable[..., Tensor]

    def given(self, prompt: Prompt) -> dict[str, Tensor]:
        return {name: prompt.media[name] for name in self.inputs}


def media_features(model: PreTrainedModel, prompt: Prompt, modality: str) -> Tensor:
    """Embeddings of one modality of a prompt ("image", "video" or "audio"): (its tokens, D).

    What a tower without any trainable parameter makes is computed without gradient or dropout and kept on the prompt;
    the others run anew at each call, with gradient where it is on.
    """
    encoder = _encoders(model)[modality]
    store: FeatureStore | None = getattr(model, "feature_store", None)
    if trainable(encoder.tower):
        if store is not None and all(trainable(other.tower) for other in _encoders(model).values()):
            store.warn_trainable()
        return encoder.encode(*encoder.given(prompt).values())
    if modality not in prompt.features:
        prompt.features[modality] = _frozen_features(model, encoder, modality, encoder.given(prompt), store)
    return prompt.features[modality]


def _frozen_features(
    model: PreTrainedModel, encoder: Encoder, modality: str, given: dict[str, Tensor], store: FeatureStore | None
) -> Tensor:
    with torch.no_grad(), _evaluating(encoder.tower):
        key = feature_key(model, encoder.tower, modality, given) if store is not None else None
        if store is None or key is None:
            return encoder.encode(*given.values())
        return store.get(key, model.device, lambda: encoder.encode(*given.values()))


@contextmanager
def _evaluating(tower: nn.Module) -> Iterator[None]:
    """A frozen tower is not being trained: no dropout, so that it always makes the same of a clip."""
    training = [module for module in tower.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


def embed(
    model: PreTrainedModel, input_ids: Tensor, prompts: list[tuple[int, Prompt]], idle: frozenset[str] = frozenset()
) -> Tensor:
    """Token embeddings (1, L, D) with each prompt's media written over its placeholders.

    prompts: (index of the prompt's first token in the row, prompt). Only positions inside a prompt are placeholders: a
    media token that the policy happened to sample in an answer keeps its own embedding. idle: as in `idle_towers`.
    """
    embeds = model.get_input_embeddings()(input_ids)
    missing = _missing_calls(model, [prompt for _, prompt in prompts], idle) if in_lockstep(model) else {}
    for modality, token in placeholder_ids(model.config).items():
        for _ in range(missing.get(modality, 0)):
            encoder = _encoders(model)[modality]
            embeds = embeds + 0 * encoder.encode(*blank_media(model, modality)).sum()
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


def _missing_calls(model: PreTrainedModel, prompts: list[Prompt], idle: frozenset[str]) -> dict[str, int]:
    """How many calls each encoder gets less on this process than on the one that has most to encode; one at least for
    what is idle."""
    encoders = _encoders(model)
    calls = {name: 0 for name in encoders}
    for prompt in prompts:
        for name in modalities(prompt):
            calls[name] += trainable(encoders[name].tower) or name not in prompt.features
    wanted = [max(n, name in idle and trainable(encoders[name].tower)) for name, n in calls.items()]
    most = most_calls(wanted, model.device)
    return {name: high - calls[name] for name, high in zip(calls, most, strict=True)}


def trainable(module: nn.Module) -> bool:
    return any(p.requires_grad for p in module.parameters())


def modalities(prompt: Prompt) -> frozenset[str]:
    """Which of "image", "video" and "audio" a prompt's media are."""
    return frozenset(modality for modality, names in _INPUTS.items() if names[0] in prompt.media)


def idle_towers(model: PreTrainedModel, idle: frozenset[str] = frozenset()) -> Tensor | int:
    """Zero, tied by the graph to the trainable parameters of towers that a row does not use.

    DDP waits for a gradient of every parameter on every rank: a rank whose clips have no sound would leave the others
    waiting, and one parameter of Omni's audio tower never gets a gradient. On one process nobody waits; there only the
    towers of the modalities in `idle` are tied, of groups that were left out because their gradient is zero: with no
    gradient at all, an optimizer would leave out weight decay and the decay of its moments too.
    """
    zero: Tensor | int = 0
    if in_lockstep(model):
        return zero  # every tower that any process needs was called by all of them, in `embed`
    together = torch.distributed.is_available() and torch.distributed.is_initialized()
    for modality, encoder in _encoders(model).items():
        if not together and modality not in idle:
            continue
        for name, parameter in encoder.tower.named_parameters():
            if parameter.requires_grad and (together or name not in _UNREAD):
                zero = zero + 0 * parameter.sum()
    return zero


# parameters of towers that the library's forward never reads: Omni's marks around a sound
_UNREAD = {"audio_bos_eos_token.weight"}


# what the encoder of a modality takes, by its names in a prompt's media
_INPUTS = {
    "image": ("pixel_values", "image_grid_thw"),
    "video": ("pixel_values_videos", "video_grid_thw"),
    "audio": ("input_features", "feature_attention_mask"),
}


def _encoders(model: PreTrainedModel) -> dict[str, Encoder]:
    inner, device = model.model, model.device

    def video(pixels: Tensor, grid: Tensor) -> Tensor:
        return torch.cat(inner.get_video_features(pixels.to(device), grid.to(device), return_dict=True).pooler_output)

    def image(pixels: Tensor, grid: Tensor) -> Tensor:
        return torch.cat(inner.get_image_features(pixels.to(device), grid.to(device), return_dict=True).pooler_output)

    def audio(features: Tensor, mask: Tensor) -> Tensor:
        # the tower casts nothing by itself, and the feature extractor always gives float32
        features = features.to(device, model.dtype)
        return inner.get_audio_features(features, mask.to(device), return_dict=True).last_hidden_state

    encoders = {
        "image": Encoder(inner.visual, _INPUTS["image"], image),
        "video": Encoder(inner.visual, _INPUTS["video"], video),
    }
    if getattr(inner, "audio_tower", None) is not None:
        encoders["audio"] = Encoder(inner.audio_tower, _INPUTS["audio"], audio)
    return encoders
