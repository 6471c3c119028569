"""Supervised fine-tuning on gold answers, through the same prompts and the same packed forward as GRPO.

It is the cold start of a small model and the paper's baseline. The target is the gold answer as the model should say it
(boxes in model space) and the end token; the loss is the mean negative log-prob a target token over the whole optimizer
step, whatever the micro-batches and processes.

A row is a clip with all its questions: they share everything up to the first token in which they differ, so the clip's
tokens stand once in the packed row, as a prompt's do for its answers in GRPO, and [rest of the question | answer] takes
the place of an answer. The questions' own tokens carry no loss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any, cast

import torch
from accelerate.utils import gather_object
from peft import PeftConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from transformers import PreTrainedModel, ProcessorMixin, TrainerCallback, TrainingArguments

from avst.data import Skipped
from avst.errors import AvstError
from avst.models.families import prompt_positions, unwrapped
from avst.models.packing import pack
from avst.out_of_memory import too_large_a_lesson
from avst.processes import refuse_data_parallel
from avst.prompt import PromptBuilder
from avst.row_trainer import RowTrainer
from avst.step import Meter
from avst.step_log import log_features
from avst.types import Answer, Prompt, Question


@dataclass(frozen=True, slots=True)
class Lesson:
    """One clip's questions as a group: `shared` is the common beginning of their prompts, `rests` what follows it in
    each (end of the question, gold answer, end token), `targets` how many of its last tokens are to be learned."""

    shared: Prompt
    rests: list[list[int]]
    targets: list[int]


class SFTTrainer(RowTrainer):
    """Trains `model` on the gold answers of `train_dataset` (rows are list[Prompt], Prompt or Skipped).

    args: transformers' TrainingArguments (per_device_train_batch_size counts rows);  prompts: renders gold
    answers.
    """

    def __init__(
        self,
        model: PreTrainedModel | PeftModel,
        args: TrainingArguments,
        train_dataset: Dataset[Any] | Sequence[Any],
        prompts: PromptBuilder,
        processing_class: ProcessorMixin | None = None,
        callbacks: list[TrainerCallback] | None = None,
        peft_config: PeftConfig | None = None,
    ) -> None:
        refuse_data_parallel(args)
        if peft_config is not None:
            model = get_peft_model(model, peft_config)
        self.prompts = prompts
        self.skipped = 0  # questions, since the last log line, on this process
        self._lessons: list[list[Lesson]] = []  # of the present step
        super().__init__(
            model=model,
            args=args,
            data_collator=cast(Any, list),  # a micro-batch is the list of its rows
            train_dataset=train_dataset,
            processing_class=processing_class,
            callbacks=callbacks,
        )
        if self.engine and getattr(unwrapped(self.model), "feature_store", None) is not None:
            raise AvstError(
                f"model.feature_cache: not for avst sft under {self.engine}: features are found by a tower's whole "
                "weights, which no process has there, so it would do nothing; leave it out, or use "
                "recipes/accelerate/zero2.yaml"
            )

    def get_train_dataloader(self) -> DataLoader[Any]:
        return self.rows_in_steps(self.args.per_device_train_batch_size)

    def get_batch_samples(
        self, epoch_iterator: Any, num_batches: int, device: torch.device
    ) -> tuple[list[list[Lesson]], Tensor]:
        """Micro-batches of lessons, and the target tokens of the step over all processes."""
        batches = self.next_rows(epoch_iterator, num_batches, device)
        self.skipped += sum(row.questions for batch in batches for row in batch if isinstance(row, Skipped))
        lessons = [[self._lesson(row) for row in batch if not isinstance(row, Skipped)] for batch in batches]
        self._lessons = lessons
        mine = sum(sum(lesson.targets) for batch in lessons for lesson in batch)
        count = self.accelerator.reduce(torch.tensor(float(mine), device=device), "sum")
        return lessons, count

    def measured(self) -> dict[str, Any]:
        return {**super().measured(), "skipped": self.skipped}

    def go_on_measuring(self, state: Mapping[str, Any]) -> None:
        super().go_on_measuring(state)
        self.skipped += state["skipped"]  # the next step's rows are there already

    def compute_loss(  # type: ignore[override]
        self, model: nn.Module, inputs: list[Lesson], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Tensor:
        lessons, weight = inputs, 1.0
        if (
            not lessons
        ):  # every sample failed: the forward still runs, for the other processes' sake, and weighs nothing
            question = Question("blank", "temporal", "-", "", 0.0, gold=Answer(), gold_text="")
            lessons, weight = [self._lesson([self.prompts.build_text(question)])], 0.0
        row = pack(
            [lesson.shared for lesson in lessons],
            [lesson.rests for lesson in lessons],
            [lesson.shared.positions for lesson in lessons],
        )
        logps = model(packed=row)["logps"]
        lengths = [n for lesson in lessons for n in lesson.targets]
        loss = -sum(part[-n:].sum() for part, n in zip(logps.split(row.lengths), lengths, strict=True))
        # processes' gradients are averaged, so each one's share counts as many times as there are processes
        loss = weight * loss * self.accelerator.num_processes / num_items_in_batch.clamp(min=1)
        return self.checked(loss, logps=logps)

    def batch_record(self) -> dict[str, Any]:
        return {"micro_batches": [[lesson.shared.question.id for lesson in batch] for batch in self._lessons]}

    def too_large(self, inputs: list[Lesson], error: BaseException) -> AvstError:
        return too_large_a_lesson([lesson.shared for lesson in inputs], self.prompts, error)

    def _prepare_inputs(self, inputs: Any) -> Any:
        return inputs  # media move to the device when they are encoded

    def _lesson(self, row: Prompt | list[Prompt]) -> Lesson:
        prompts = [row] if isinstance(row, Prompt) else row
        tokenizer = self.prompts.processor.tokenizer
        golds = [tokenizer(self.prompts.gold(p), add_special_tokens=False)["input_ids"] for p in prompts]
        ids = [p.input_ids.reshape(-1).tolist() for p in prompts]
        # the last prompt token stays with the rest where there is but one question, so that none is empty
        same = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, zip(*ids, strict=False)))
        same = min(same, min(len(one) for one in ids) - 1)
        lead = prompts[0]
        positions = prompt_positions(unwrapped(self.model), lead)
        shared = replace(lead, input_ids=lead.input_ids[:same], positions=positions[:, :same])
        rests = [[*one[same:], *gold, self._end] for one, gold in zip(ids, golds, strict=True)]
        return Lesson(shared, rests, [len(gold) + 1 for gold in golds])

    @property
    def _end(self) -> int:
        return self.prompts.processor.tokenizer.eos_token_id

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Every log line of training carries what was measured since the last one, over all processes."""
        if "loss" in logs or "train_loss" not in logs:
            meter = Meter()
            meter.add("samples/skipped", self.skipped)
            log_features(meter, getattr(unwrapped(self.model), "feature_store", None))
            meters = gather_object([meter]) if self.accelerator.num_processes > 1 else [meter]
            logs = {**logs, **meter.merged(meters)}
            self.skipped = 0
        super().log(logs, start_time)
