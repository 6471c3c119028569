"""A model's sizes and parameters by part, counted on a model without weights: all that the formulae need of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from avst.config import LoraRecipe, Recipe
from avst.models.families import towers, unwrapped
from avst.models.loading import load_config, lora_config, sketch_of
from avst.models.packaged import packaged
from avst.plan.published import published


@dataclass(frozen=True, slots=True)
class Tower:
    """The vision or audio tower with its connector.

    width: of its states;  inner: of its MLP;  blocks: layers;  full: those that see a whole frame (vision);
    window: keys a query sees in the others, for audio in all;  weights: of a block's matrices;  before, behind: of the
    embedding and of the connector;  pixels: numbers of a position's input;  trained,
    connector_trained: parameters with a gradient.
    """

    width: int
    inner: int
    blocks: int
    full: int
    window: int
    weights: int
    before: int
    behind: int
    pixels: int
    trained: int
    connector_trained: int

    @property
    def frozen(self) -> bool:
        """Its features are then made once a clip and kept (avst.models.features)."""
        return not (self.trained or self.connector_trained)


@dataclass(frozen=True, slots=True)
class Shape:
    """D hidden, F inner, K of all heads of keys together;  layers, heads;  words: of the vocabulary.

    weights: of one layer's matrices;  parts: part -> parameters, the head only where it is not the embedding;
    trained: the same of those with a gradient;  lora: of the adapters, rank: theirs;  itemsize: bytes of a weight.
    """

    D: int
    F: int
    K: int
    layers: int
    heads: int
    words: int
    weights: int
    parts: dict[str, int]
    trained: dict[str, int]
    lora: int
    rank: int
    adapted: int
    itemsize: int
    four_bit: bool
    head_trains: bool
    vision: Tower
    audio: Tower | None

    @property
    def parameters(self) -> int:
        """Without adapters."""
        return sum(self.parts.values())

    @property
    def trainable(self) -> int:
        return self.lora or sum(self.trained.values())

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "parameters": self.parameters, "trainable": self.trainable}


def sketch(recipe: Recipe, path: str | None = None) -> Any:
    """The recipe's model without weights: from its folder's config.json, from the published dimensions (no network), or
    from the Hub. Raises AvstError where none of them knows it."""
    chosen = recipe.model
    asked = str(packaged(path or chosen.path))
    config = None if Path(asked).is_dir() else published(asked)
    if config is None:
        config = load_config(asked, chosen.revision if path is None else None)
    return sketch_of(config, chosen.dtype, chosen.freeze)


def shape_of(model: Any, lora: LoraRecipe | None = None) -> Shape:
    """model: transformers', with weights or without, frozen as the recipe says;  lora: adapters that it is to get."""
    model = unwrapped(model)
    text = model.config.get_text_config()
    head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    language, ears = model.model.language_model, getattr(model.model, "audio_tower", None)
    tied = model.lm_head.weight is language.embed_tokens.weight
    modules: dict[str, list[nn.Module]] = {
        "layers": [language.layers, language.norm],
        "embeddings": [language.embed_tokens],
        "head": [] if tied else [model.lm_head],
        "vision tower": towers(model)["vision"],
        "audio tower": towers(model)["audio"],
        "connectors": towers(model)["connector"],
    }
    parts = {part: sum(_count(module) for module in found) for part, found in modules.items() if found}
    trained = {part: sum(_count(module, True) for module in modules[part]) for part in parts}
    adapters, adapted = _adapters(model, lora) if lora is not None else (0, 0)
    if lora is not None:
        trained = dict.fromkeys(parts, 0)
    return Shape(
        D=text.hidden_size,
        F=text.intermediate_size,
        K=text.num_key_value_heads * head,
        layers=text.num_hidden_layers,
        heads=text.num_attention_heads,
        words=text.vocab_size,
        weights=sum(p.numel() for p in language.layers[0].parameters() if p.dim() == 2),
        parts=parts,
        trained=trained,
        lora=adapters,
        rank=lora.r if lora is not None else 0,
        adapted=adapted,
        itemsize=torch.empty((), dtype=model.dtype).element_size(),
        four_bit=lora is not None and lora.quantize_4bit,
        head_trains=bool(trained.get("head", trained["embeddings"])),
        vision=_vision(model, lora is not None),
        audio=None if ears is None else _audio(model, lora is not None),
    )


def _count(module: nn.Module, trainable: bool = False) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad or not trainable)


def _adapters(model: Any, lora: LoraRecipe) -> tuple[int, int]:
    """(parameters of the adapters, layers that get one): rank x (in + out) each, on the layers that peft will take."""
    names = lora_config(model, lora.r, target_modules=lora.target_modules).target_modules
    wanted = {names} if isinstance(names, str) else set(names or ())
    found = [
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and (name in wanted or any(name.endswith(f".{end}") for end in wanted))
    ]
    return sum(lora.r * (m.in_features + m.out_features) for m in found), len(found)


def _vision(model: Any, frozen: bool) -> Tower:
    config, tower = model.config.vision_config, model.model.visual
    side = config.window_size // config.patch_size
    pixels = config.in_channels * config.temporal_patch_size * config.patch_size**2
    return _tower(
        tower.blocks,
        tower.patch_embed,
        tower.merger,
        frozen,
        side * side,
        len(config.fullatt_block_indexes),
        config,
        pixels,
    )


def _audio(model: Any, frozen: bool) -> Tower:
    config, tower = model.config.audio_config, model.model.audio_tower
    convolutions = nn.ModuleList([tower.conv1, tower.conv2])
    return _tower(tower.layers, convolutions, tower.proj, frozen, config.n_window, 0, config, 2 * config.num_mel_bins)


def _tower(
    blocks: Any, before: nn.Module, behind: nn.Module, frozen: bool, window: int, full: int, config: Any, pixels: int
) -> Tower:
    return Tower(
        width=getattr(config, "d_model", None) or config.hidden_size,
        inner=getattr(config, "encoder_ffn_dim", None) or config.intermediate_size,
        blocks=len(blocks),
        full=full,
        window=window,
        weights=sum(p.numel() for p in blocks[0].parameters() if p.dim() == 2),
        before=_count(before),
        behind=_count(behind),
        pixels=pixels,
        trained=0 if frozen else _count(blocks, True) + _count(before, True),
        connector_trained=0 if frozen else _count(behind, True),
    )
