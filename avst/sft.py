"""Supervised fine-tuning on gold answers, through the same prompts and the same packed forward as GRPO.

It is the cold start of a small model and the paper's baseline. The target is the gold answer as the model should say it
(boxes in model space) and the end token; the loss is the mean negative log-prob a target token over the whole optimizer
step, whatever the micro-batches and processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from peft import PeftConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from transformers import PreTrainedModel, ProcessorMixin, Trainer, TrainerCallback, TrainingArguments

from avst.data import Skipped, StepRows, StepSampler
from avst.models.families import prompt_positions, unwrapped
from avst.models.packing import pack
from avst.prompt import PromptBuilder
from avst.types import Answer, Prompt, Question


class SFTTrainer(Trainer):
    """Trains `model` on the gold answers of `train_dataset` (rows are Prompt or Skipped).

    args: transformers' TrainingArguments (per_device_train_batch_size counts questions);  prompts: renders gold
    answers.
    """

    loss_is_scaled_for_ga = True

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
        if peft_config is not None:
            model = get_peft_model(model, peft_config)  # type: ignore[assignment, arg-type]
        self.prompts = prompts
        self.skipped = 0
        super().__init__(
            model=model,
            args=args,
            data_collator=list,
            train_dataset=train_dataset,
            processing_class=processing_class,
            callbacks=callbacks,
        )

    def get_train_dataloader(self) -> DataLoader[Any]:
        size, accumulation = self.args.per_device_train_batch_size, self.args.gradient_accumulation_steps
        rows_per_step = size * self.args.world_size * accumulation
        seed = self.args.data_seed if self.args.data_seed is not None else self.args.seed
        self.order = StepSampler(len(self.train_dataset), rows_per_step, 1, True, seed)  # type: ignore[arg-type]
        return self._get_dataloader(
            dataset=StepRows(self.train_dataset),
            description="Training",
            batch_size=size,
            sampler_fn=lambda _: self.order,
            is_training=True,
        )

    def get_batch_samples(
        self, epoch_iterator: Any, num_batches: int, device: torch.device
    ) -> tuple[list[list[tuple[Prompt, list[int]]]], Tensor]:
        """Micro-batches of (prompt, target ids), and the target tokens of the step over all processes."""
        self.order.epoch = int(self.state.epoch or 0)
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        self.skipped += sum(isinstance(row, Skipped) for batch in batches for row in batch)
        pairs = [[(row, self._target(row)) for row in batch if isinstance(row, Prompt)] for batch in batches]
        mine = sum(len(target) for batch in pairs for _, target in batch)
        count = self.accelerator.reduce(torch.tensor(float(mine), device=device), "sum")
        return pairs, count

    def compute_loss(  # type: ignore[override]
        self,
        model: nn.Module,
        inputs: list[tuple[Prompt, list[int]]],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Tensor:
        weight = 1.0
        if not inputs:  # every sample failed: the forward still runs, for the other processes' sake, and weighs nothing
            question = Question("blank", "temporal", "-", "", 0.0, gold=Answer(), gold_text="")
            inputs, weight = [(self.prompts.build_text(question), [self._end])], 0.0
        bare = unwrapped(self.model)
        row = pack([p for p, _ in inputs], [[t] for _, t in inputs], [prompt_positions(bare, p) for p, _ in inputs])
        logps = model(packed=row)["logps"]
        # processes' gradients are averaged, so each one's share counts as many times as there are processes
        return -weight * logps.sum() * self.accelerator.num_processes / num_items_in_batch.clamp(min=1)

    def _prepare_inputs(self, inputs: Any) -> Any:
        return inputs  # media move to the device when they are encoded

    def _target(self, prompt: Prompt) -> list[int]:
        tokenizer = self.prompts.processor.tokenizer
        return [*tokenizer(self.prompts.gold(prompt), add_special_tokens=False)["input_ids"], self._end]

    @property
    def _end(self) -> int:
        return self.prompts.processor.tokenizer.eos_token_id

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        super().log({**logs, "samples/skipped": self.skipped}, start_time)

    def floating_point_ops(self, inputs: Any) -> int:
        return 0  # the library's estimate counts input_ids of a padded batch, which there is none of
