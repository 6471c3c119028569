"""The reference policy that KL is measured against: a frozen copy, or the adapters switched off."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from avst.models.packing import PackedRow


class Reference:
    """Log-probs under the policy as it was before training.

    With LoRA it is the same model with its adapters off and costs no memory; otherwise a frozen copy in evaluation
    mode. A tower frozen in the policy is the same tower here, so its features, kept on the prompt, serve both; one
    that trains in the policy is never looked up there by the policy (avst.models.features), only by this copy.
    """

    def __init__(self, policy: nn.Module) -> None:
        self.adapters = hasattr(policy, "disable_adapter")
        self.model: nn.Module | None = None
        if not self.adapters:
            self.model = copy.deepcopy(policy).eval().requires_grad_(False)

    def prepare(self, accelerator: Any) -> None:
        if self.model is not None:
            self.model = accelerator.prepare_model(self.model, evaluation_mode=True)

    @torch.no_grad()
    def logps(self, policy: nn.Module, unwrapped: Any, row: PackedRow, temperature: float) -> Tensor:
        """(ΣC,) log-probs. policy: the wrapped model being trained;  unwrapped: the peft model in it."""
        if self.model is not None:
            return self.model(packed=row, temperature=temperature)["logps"]
        with unwrapped.disable_adapter() if self.adapters else nullcontext():
            return policy(packed=row, temperature=temperature)["logps"]
