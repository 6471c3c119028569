"""What the GRPO trainer says and does about a step that failed: what it was made of, and what to forget of it."""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor, nn

from avst.errors import AvstError
from avst.out_of_memory import too_large_a_rollout, too_large_an_update
from avst.prompt import PromptBuilder
from avst.row_trainer import RowTrainer
from avst.step import Meter, MicroBatch, Step
from avst.step_log import group_record


class StepFaults(RowTrainer):
    """avst.finite's questions, answered for steps of groups."""

    prompts: PromptBuilder
    num_generations: int
    meter: Meter
    _step: Step | None

    def training_step(self, model: nn.Module, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        with self.meter.phase("step"):
            return super().training_step(model, inputs, num_items_in_batch)

    def batch_record(self) -> dict[str, Any]:
        return {"micro_batches": [group_record(micro.groups) for micro in self._micro_batches()]}

    def left_out(self) -> None:
        for micro in self._micro_batches():
            micro.forget_what_is_not_finite()

    def too_large(self, inputs: MicroBatch, error: BaseException) -> AvstError:
        if inputs.step.rolled_out:
            return too_large_an_update(inputs.groups, self.prompts, error)
        most = cast(Any, self.args).max_completion_length
        return too_large_a_rollout(inputs.step.prompts, self.num_generations, most, self.prompts, error)

    def _micro_batches(self) -> list[MicroBatch]:
        return self._step.micro_batches if self._step is not None else []
