"""The reference policy that KL is measured against: a frozen copy, or adapters switched off or back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate.utils.fsdp_utils import fsdp2_prepare_model
from torch import Tensor, nn
from trl.models import prepare_deepspeed

from avst.models.families import unwrapped
from avst.models.packing import PackedRow
from avst.sharding import copy_of


class Reference:
    """Log-probs under the policy as it was before training.

    With new adapters it is the same model with these off and costs no memory; with adapters that were trained before,
    the same model with their weights as they came (TRL keeps such a copy as a second adapter, which then is saved with
    every checkpoint); otherwise a frozen copy in evaluation mode. A tower frozen in the policy is the same tower here,
    so its features, kept on the prompt, serve both; one that trains in the policy is never looked up there by the
    policy (avst.models.features), only by this copy.

    new_adapters: the policy's adapters were made for this run, so that they do nothing yet;  engine: what shares the
    weights out (avst.sharding), or "": under one, adapters cannot be put back and the reference is a copy for them too.
    """

    def __init__(self, policy: nn.Module, new_adapters: bool = True, engine: str = "") -> None:
        self.engine = engine
        adapters = hasattr(policy, "disable_adapter")
        self.model: Any = None
        self.loaded: list[tuple[nn.Parameter, Tensor]] = []
        if not adapters or (engine and not new_adapters):
            self.model = copy_of(policy).requires_grad_(False)
            if engine:  # features are found by a tower's whole weights, which this copy has not
                unwrapped(self.model).feature_store = None
        elif not new_adapters:
            self.loaded = [(p, p.detach().clone()) for p in policy.parameters() if p.requires_grad]

    def prepare(self, accelerator: Any) -> None:
        self.loaded = [(parameter, weights.to(parameter.device)) for parameter, weights in self.loaded]
        if self.model is None:
            return
        if self.engine == "ZeRO-3":
            self.model = prepare_deepspeed(self.model, accelerator)
        elif self.engine == "FSDP2":
            self.model = fsdp2_prepare_model(accelerator, self.model)
        else:
            self.model = accelerator.prepare_model(self.model, evaluation_mode=True)

    @torch.no_grad()
    def logps(self, policy: nn.Module, unwrapped: Any, row: PackedRow, temperature: float) -> Tensor:
        """(ΣC,) log-probs. policy: the wrapped model being trained;  unwrapped: the peft model in it."""
        if self.model is not None:
            return self.model(packed=row, temperature=temperature)["logps"]
        with self._put_back(unwrapped) if self.loaded else unwrapped.disable_adapter():
            return policy(packed=row, temperature=temperature)["logps"]

    @contextmanager
    def _put_back(self, unwrapped: Any) -> Iterator[None]:
        """The adapters' weights as they came, without dropout; what they have become since is in place again after."""
        trained, training = [parameter.data for parameter, _ in self.loaded], unwrapped.training
        unwrapped.eval()
        try:
            for parameter, weights in self.loaded:
                parameter.data = weights
            yield
        finally:
            unwrapped.train(training)
            for (parameter, _), weights in zip(self.loaded, trained, strict=True):
                parameter.data = weights
