"""What both trainers add to transformers' Trainer: rows in whole optimizer steps, and a true resume."""

from __future__ import annotations

from typing import Any

import torch
from peft import PeftModel
from torch import nn
from torch.utils.data import DataLoader
from transformers import PreTrainedModel

from avst.data import StepRows, StepSampler, draws_apart
from avst.finite import FiniteTrainer
from avst.hand_over import opened
from avst.models.families import unwrapped
from avst.models.loading import restore_weights
from avst.sharding import sharded


class RowTrainer(FiniteTrainer):
    """A Trainer whose micro-batches are lists of the data set's rows, in the order of a StepSampler."""

    model: PreTrainedModel | PeftModel
    order: StepSampler
    loss_is_scaled_for_ga = True  # both trainers divide by what a whole step counts, so that micro-batches add up

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.engine = sharded(self.accelerator)
        unwrapped(self.model).lockstep = self.is_deepspeed_enabled or self.is_fsdp_enabled

    def rows_in_steps(self, rows: int, num_iterations: int = 1, shuffle: bool = True) -> DataLoader[Any]:
        """The training loader. rows: of a micro-batch on a process."""
        seed = self.args.data_seed if self.args.data_seed is not None else self.args.seed
        rows_per_step = rows * self.args.world_size * self.args.gradient_accumulation_steps
        count = len(self.train_dataset)  # type: ignore[arg-type]  # the Trainer allows for sets without a length
        self.order = StepSampler(count, rows_per_step, num_iterations, shuffle, seed)
        loader = self._get_dataloader(
            dataset=StepRows(self.train_dataset),
            description="Training",
            batch_size=rows,
            sampler_fn=lambda _: self.order,
            is_training=True,
        )
        return draws_apart(loader)

    def next_rows(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> list[list[Any]]:
        """The rows of one optimizer step's micro-batches; what failed in a loader's worker is raised here."""
        self.order.epoch = int(self.state.epoch or 0)
        arrived, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        return [opened(rows) for rows in arrived]

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        if isinstance(self.model, PeftModel) or self.is_fsdp_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            restore_weights(self.model, resume_from_checkpoint)

    def floating_point_ops(self, inputs: Any) -> int:
        return 0  # the library's estimate counts input_ids of a padded batch, which there is none of
