"""No update is made from numbers that are not finite, on any process.

Where it is decided: between clipping and the optimizer's step, once an optimizer step. The norm of the gradients is
there already (the Trainer computes it for the log), and it is the same on all processes, since they have shared their
gradients by then; of a loss only the process that computed it knows, so each tells the others in one small gather.
Micro-batches before the last cost nothing. Gradients that must not count are dropped: an optimizer leaves a weight
without a gradient alone, its momentum and decay too. The schedule goes on, for it belongs to the step's number.

float16 with a GradScaler: overflowing gradients are its daily bread. It leaves the update out and halves its scale;
only a loss that is not finite, which is looked at before scaling, counts here.

DeepSpeed makes its update inside backward, where nobody else can stop it: there the losses are compared before each
backward, and a bad one ends the run at once, with the weights of the step before. Gradients are DeepSpeed's own affair
(fp16, or bf16.check_grad_overflow in its configuration).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import DistributedType
from torch import Tensor, nn

from avst.bad_steps import FOLDER, BadStepBounds, BadSteps, save_batch
from avst.errors import AvstError
from avst.failures import out_of_memory
from avst.saving import AtomicTrainer

logger = logging.getLogger(__name__)
NAMED = 20  # weights at most that a record names


class FiniteTrainer(AtomicTrainer):
    """A Trainer that leaves a step out, on all processes, when a loss or a gradient is not finite.

    bounds: how many such steps end the run;  bad_steps: how many there were.
    """

    bounds = BadStepBounds()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.bad_steps = BadSteps()
        self._wrong: list[str] = []  # what this process found in the present step
        super().__init__(*args, **kwargs)

    def batch_record(self) -> dict[str, Any]:
        """What this process's step was made of, for JSON. A subclass says."""
        return {}

    def left_out(self) -> None:
        """Called when no update was made. A subclass mends what it keeps from step to step."""

    def too_large(self, inputs: Any, error: BaseException) -> AvstError:
        """What to say when there was too little memory for this micro-batch. A subclass says more."""
        return AvstError(f"not enough memory ({error})")

    def measured(self) -> dict[str, Any]:
        return {**super().measured(), "bad_steps": self.bad_steps.state()}

    def go_on_measuring(self, state: Mapping[str, Any]) -> None:
        super().go_on_measuring(state)
        self.bad_steps = BadSteps.of(state.get("bad_steps", {}))

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if skipped := self.bad_steps.told():
            logs = {**logs, "steps/skipped": float(skipped)}
        super().log(logs, start_time)

    # ---- a step ------------------------------------------------------------------------------------------------------

    def training_step(self, model: nn.Module, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        try:
            loss = super().training_step(model, inputs, num_items_in_batch)
        except Exception as error:
            if out_of_memory(error):
                raise self.too_large(inputs, error) from error
            raise
        return loss.nan_to_num(0.0, 0.0, 0.0)  # the logged mean is over the losses that there were

    def checked(self, loss: Tensor, **tensors: Tensor | None) -> Tensor:
        """The loss of a micro-batch, looked at; `tensors`: what it was made of, named where it is not finite."""
        if not bool(loss.isfinite()):
            found = [name for name, value in tensors.items() if value is not None and not bool(value.isfinite().all())]
            self._wrong += [f"loss {loss.item():g}", *found]
        if self.accelerator.distributed_type == DistributedType.DEEPSPEED:
            self._end_before_backward()
        return loss

    def _end_before_backward(self) -> None:
        if self._wrong:
            self._keep(self._wrong)
        if any(self._of_all(bool(self._wrong), False)[0]):
            raise AvstError(
                f"step {self.state.global_step + 1}: the loss is not finite; under DeepSpeed the update cannot be left "
                f"out, so the run ends with the weights of the step before; the batch is in {self._folder}"
            )

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        """The norm, once this step may be made; None where it may not, and there are no gradients then."""
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        wrong, self._wrong = self._wrong, []
        if self.accelerator.distributed_type == DistributedType.DEEPSPEED:
            return norm
        scaled = self.accelerator.scaler is not None
        value = float(norm.item() if isinstance(norm, Tensor) else norm)
        losses, gradients = self._of_all(bool(wrong), not scaled and not math.isfinite(value))
        if not any(losses) and not any(gradients):
            self.bad_steps.good()
            return norm
        if any(gradients):
            wrong = [*wrong, *_not_finite(model)]
        said = _said(losses)
        if losses[self.args.process_index] or not any(losses):
            self._keep(wrong)
        model.zero_grad(set_to_none=True)
        self.left_out()
        self.bad_steps.bad()
        self._say(said)
        self.bad_steps.end_beyond(self.bounds, f"step {self.state.global_step + 1}: {said}", self._folder)
        return None

    def _of_all(self, loss: bool, gradient: bool) -> tuple[list[bool], list[bool]]:
        """For each process: whether its loss, whether its gradient was not finite."""
        if self.args.world_size == 1:
            return [loss], [gradient]
        mine = torch.tensor([[loss, gradient]], dtype=torch.int32, device=self.args.device)
        each = self.accelerator.gather(mine).bool().tolist()
        return [row[0] for row in each], [row[1] for row in each]

    # ---- what is kept of it ------------------------------------------------------------------------------------------

    @property
    def _folder(self) -> Path:
        return Path(self.args.output_dir or ".") / FOLDER

    def _keep(self, wrong: list[str]) -> None:
        step, rank = self.state.global_step + 1, self.args.process_index
        try:
            save_batch(self._folder, step, rank, wrong, self.batch_record())
        except OSError as error:  # the run can go on without
            logger.warning("%s: the batch of step %d cannot be kept: %s", self._folder, step, error)

    def _say(self, said: str) -> None:
        if self.is_world_process_zero():
            logger.warning(
                "step %d: %s: no update is made; its batch is in %s (%d in a row, %d end the run; %d in all, %d do)",
                *(self.state.global_step + 1, said, self._folder),
                *(self.bad_steps.in_a_row, self.bounds.in_a_row, self.bad_steps.in_all, self.bounds.in_all),
            )


def _said(losses: list[bool]) -> str:
    """Example: "the loss of process 1 is not finite"."""
    if not any(losses):
        return "the gradient is not finite"
    if len(losses) == 1:
        return "the loss is not finite"
    which = [str(rank) for rank, bad in enumerate(losses) if bad]
    return f"the loss of process {', '.join(which)} is not finite"


def _not_finite(model: nn.Module) -> list[str]:
    """The weights whose gradients are not finite, the first ones by name."""
    names = [
        f"gradient of {name}"
        for name, weight in model.named_parameters()
        if weight.grad is not None and not bool(weight.grad.isfinite().all())
    ]
    return names if len(names) <= NAMED else [*names[:NAMED], f"{len(names) - NAMED} more gradients"]
