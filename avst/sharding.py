"""Engines that leave every process a share of the weights (ZeRO-3, FSDP2), and the whole model that a rollout needs.

A rollout calls parts of the model, as often as its answers are long, and processes come to their ends at different
times: inside an engine every such call would be a collective that the others wait for. So the weights are gathered
once, into a twin that no engine knows of, and are gone again when the step's answers are there.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from avst.errors import AvstError
from avst.models.families import unwrapped


def sharded(accelerator: Accelerator) -> str:
    """The engine that shards the weights, "ZeRO-3" or "FSDP2", or "" where every process has them whole. AvstError for
    FSDP's first version, whose flat parameters have no names."""
    zero = accelerator.state.deepspeed_plugin
    if zero is not None and zero.zero_stage == 3:
        return "ZeRO-3"
    fsdp = getattr(accelerator.state, "fsdp_plugin", None)
    if fsdp is None:
        return ""
    if fsdp.fsdp_version != 2:
        raise AvstError("FSDP's first version is not supported: set fsdp_version: 2, as recipes/accelerate/fsdp2.yaml")
    return "FSDP2"


def computed_in(accelerator: Accelerator) -> torch.dtype | None:
    """What FSDP2 casts its float32 weights to before it computes with them, where it does; DeepSpeed keeps what it
    computes with."""
    policy = getattr(getattr(accelerator.state, "fsdp_plugin", None), "mixed_precision_policy", None)
    return getattr(policy, "param_dtype", None)


class WholeWeights:
    """A twin of a model, whose parameters are there inside `gathered` alone.

    model: as loaded, before an engine has it;  device: where the twin computes.
    """

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        self.twin = without_weights(model).to(device)
        unwrapped(self.twin).lockstep = False
        frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
        for name, parameter in self.twin.named_parameters():
            parameter.requires_grad_(name not in frozen)  # what is frozen keeps its features on the prompt

    @contextmanager
    def gathered(self, model: nn.Module, dtype: torch.dtype | None = None) -> Iterator[Any]:
        """The twin with the weights that `model` (in its engine, or unwrapped) has now. Every process must come here.

        dtype: what the engine computes in, where that is narrower than what it keeps.
        """
        theirs = dict(model.named_parameters())
        with whole(theirs.values()) as tensors:
            for (name, parameter), value in zip(self.twin.named_parameters(), tensors, strict=True):
                assert name in theirs
                narrow = dtype is not None and value.is_floating_point()
                parameter.data = value.to(parameter.device, dtype if narrow else value.dtype)
            try:
                yield self.twin
            finally:
                for parameter in self.twin.parameters():
                    parameter.data = parameter.data.new_empty(0)


def without_weights(model: nn.Module) -> nn.Module:
    """A copy of the module tree in evaluation mode: its buffers, and empty parameters of the same dtype, tied where the
    model's are."""
    empty = {id(p): nn.Parameter(torch.empty(0, dtype=p.dtype), requires_grad=False) for p in model.parameters()}
    store = {id(m.feature_store): m.feature_store for m in model.modules() if hasattr(m, "feature_store")}
    return copy.deepcopy(model, memo={**empty, **store}).eval()


def copy_of(model: nn.Module) -> nn.Module:
    """A whole copy, in evaluation mode; also of a model that DeepSpeed's zero.Init has shared out already."""
    copied = without_weights(model)
    with whole(model.parameters()) as tensors:
        for parameter, value in zip(copied.parameters(), tensors, strict=True):
            parameter.data = value.clone()
    return copied


@contextmanager
def whole(parameters: Iterable[nn.Parameter]) -> Iterator[Iterator[Tensor]]:
    """The parameters' whole tensors one after the other, whatever an engine has made of them; to be read inside the
    block alone, by every process."""
    parameters = list(parameters)
    with ExitStack() as stack:
        if any(hasattr(p, "ds_id") for p in parameters):
            import deepspeed  # an extra

            stack.enter_context(deepspeed.zero.GatheredParameters(parameters))
        yield (p.full_tensor().detach() if isinstance(p, DTensor) else p.data for p in parameters)


def reshard(model: nn.Module) -> None:
    """Let go of what FSDP2 has kept whole since the last forward: it would be stale after an update."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()
