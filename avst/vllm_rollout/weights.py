"""Which weights vLLM is given, under which names.

The first time all of them, so that it has the policy's whatever it was started with; from then on only those that
training can have changed. Adapters are merged on the way and nowhere else: peft's own merge and unmerge in place would
leave its rounding in the frozen weights, step after step.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion

from avst.errors import AvstError
from avst.models.families import family_of, towers, unwrapped
from avst.vllm_rollout.engine import Named


class PolicyWeights:
    """The weights of a policy as vLLM's `load_weights` takes them: named as in the family's checkpoints."""

    def __init__(self, policy: nn.Module) -> None:
        """policy: a transformers model, with or without LoRA, whose weights are whole on this process."""
        self.model: PreTrainedModel = unwrapped(policy)
        self.tensors = dict(_tensors(self.model))
        self.names = _names_in_checkpoint(self.model, list(self.tensors))
        self.language = {id(p) for module in towers(self.model)["language"] for p in module.parameters()}

    def all(self) -> list[Named]:
        return [self._named(name) for name in self.tensors]

    def trained(self) -> list[Named]:
        """What an optimizer step can have changed: trainable weights, and those that adapters are added to."""
        return [self._named(name) for name, weight in self.tensors.items() if weight.trained]

    def _named(self, name: str) -> Named:
        weight = self.tensors[name]
        dtype = str(weight.parameter.dtype).removeprefix("torch.")
        encodes = id(weight.parameter) not in self.language
        return Named(self.names[name], dtype, tuple(weight.parameter.shape), weight.make, encodes)


@dataclass(frozen=True, slots=True)
class _Weight:
    """A parameter of the model and the layer whose adapters are added to it, None for none."""

    parameter: Tensor
    layer: LoraLayer | None
    trained: bool

    @torch.no_grad()
    def make(self) -> Tensor:
        """As peft merges it, but in a tensor of its own."""
        if self.layer is None:
            return self.parameter.detach()
        total = self.parameter.detach().clone()
        for adapter in self.layer.active_adapters:
            if adapter in self.layer.lora_A:
                total += self.layer.get_delta_weight(adapter).to(total.dtype)  # type: ignore[attr-defined]
        return total


def _tensors(model: PreTrainedModel) -> Iterator[tuple[str, _Weight]]:
    """(name as without adapters, weight) of every parameter."""
    modules = dict(model.named_modules())
    for name, parameter in model.named_parameters():
        if hasattr(parameter, "ds_id") or hasattr(parameter, "full_tensor"):
            raise AvstError(
                "use_vllm=True: this process has a share of the weights alone (ZeRO-3, FSDP); gather them first"
            )
        owner, _, leaf = name.rpartition(".")
        layer = modules.get(owner.removesuffix(".base_layer"))
        if any(part.startswith("lora_") for part in name.split(".")):
            continue
        if not isinstance(layer, LoraLayer):
            yield name, _Weight(parameter, None, parameter.requires_grad)
            continue
        _refuse_unmergeable(owner, layer, parameter)
        adapted = layer if leaf == "weight" else None
        yield (
            name.replace(".base_layer.", "."),
            _Weight(parameter, adapted, adapted is not None or parameter.requires_grad),
        )


def _refuse_unmergeable(name: str, layer: LoraLayer, parameter: Tensor) -> None:
    if not parameter.is_floating_point():
        raise AvstError("use_vllm=True with model.lora.quantize_4bit is not supported: vLLM takes merged weights")
    if layer.lora_variant or any(layer.lora_bias.values()) or layer.lora_embedding_A:
        raise AvstError(f"use_vllm=True: the adapter of {name} is no plain LoRA of a linear layer, so it is not merged")


def _names_in_checkpoint(model: PreTrainedModel, names: list[str]) -> dict[str, str]:
    """Parameter name -> its name in a checkpoint of this family, by the renaming with which transformers saves it."""
    marks = {name: torch.tensor(number) for number, name in enumerate(names)}
    renamed = {int(mark): name for name, mark in revert_weight_conversion(model, marks).items()}
    prefix = family_of(model.config).vllm_prefix
    return {name: prefix + renamed[number] for number, name in enumerate(names)}
