"""Whole runs from a recipe: what `avst sft` and `avst train` do, and what the quickstart strings together."""

from __future__ import annotations

import logging
import math
import os
import socket
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments, set_seed

from avst import assemble, logs, trackers
from avst.config import Recipe, grpo_config, sft_config
from avst.errors import AvstError, Interrupted
from avst.failures import keep_tracebacks_in
from avst.forgiving import forgiving_sink
from avst.going_on import about, choose
from avst.held import held
from avst.interrupt import StopOnSignal
from avst.model_card.writer import CardWriter
from avst.processes import processes
from avst.row_trainer import RowTrainer
from avst.run_folder import RunFolder
from avst.sft import SFTTrainer
from avst.together import bound_waiting, failing_together
from avst.trainer import GRPOTrainer

logger = logging.getLogger(__name__)

# What a recipe may leave unsaid. The classes' own defaults would write to the network and fill the disk, and without
# use_cpu every process of a torchrun on CPU would take itself for the only one.
UNSAID = {
    "report_to": "none",
    "save_strategy": "no",
    "logging_first_step": True,
    "use_cpu": not torch.accelerator.is_available(),
    "dataloader_pin_memory": torch.accelerator.is_available(),
}

# Worker processes of the loader where the recipe does not say how many: while the model works on one step they decode
# the clips of the next.
WORKERS = 2

SEEN_WITHIN = 60.0  # seconds: NFS shows a new file to other hosts with so much delay, by its defaults


@failing_together()
def run_grpo(
    recipe: Recipe,
    checkpoint: str | Path | None = None,
    overwrite: bool = False,
    resume: str | None = None,
    allow_changes: bool = False,
) -> Path:
    """Train by GRPO; returns the folder of the last weights. What can be wrong with the recipe is found
    before the run's folder is touched: --overwrite deletes nothing for the sake of a run that never begins.

    resume: a checkpoint, or "latest";  allow_changes: go on although recipe, data or processes have changed. Raises
    AvstError, and Interrupted where a signal ended the run.
    """
    # the library renames the option; the recipes keep the name that the oldest supported version knows
    warnings.filterwarnings("ignore", "`gradient_checkpointing` is deprecated", FutureWarning)
    args = grpo_config(replace(recipe, grpo={**UNSAID, "logging_steps": 1, "log_completions": True, **recipe.grpo}))
    trackers.require(args.report_to)
    set_loader(args, recipe.grpo, recipe.data.keep_in_memory)
    start = _Start("train", checkpoint, overwrite, resume, allow_changes)
    scorer = assemble.scorer(recipe)
    begin = start.prepared(recipe)
    set_seed(recipe.seed)
    parts = assemble.policy(recipe, checkpoint)
    trainer = GRPOTrainer(
        model=parts.model,
        scorer=scorer,
        args=args,
        train_dataset=assemble.dataset(recipe, parts, "train"),
        prompts=parts.prompts,
        processing_class=parts.processor,
        peft_config=parts.adapters,
        rollout_options=recipe.rollout,
    )
    _warn_of_narrow_weights(trainer)
    with start.folder(recipe) as folder:
        trainer.completion_sink = forgiving_sink(folder.write_completions)
        trainer.bounds = recipe.bad_steps
        return _train(trainer, folder, begin, CardWriter(recipe, "train", checkpoint, folder))


@failing_together()
def run_sft(
    recipe: Recipe,
    checkpoint: str | Path | None = None,
    overwrite: bool = False,
    resume: str | None = None,
    allow_changes: bool = False,
) -> Path:
    """Train on gold answers; returns the folder of the last weights. Arguments and errors are those of run_grpo."""
    args = sft_config(
        replace(recipe, sft={**UNSAID, "logging_steps": 10, "remove_unused_columns": False, **recipe.sft})
    )
    trackers.require(args.report_to)
    set_loader(args, recipe.sft, recipe.data.keep_in_memory)
    start = _Start("sft", checkpoint, overwrite, resume, allow_changes)
    begin = start.prepared(recipe)
    set_seed(recipe.seed)
    parts = assemble.policy(recipe, checkpoint)
    trainer = SFTTrainer(
        model=parts.model,
        args=args,
        train_dataset=assemble.dataset(recipe, parts, "train", by_clip=True),
        prompts=parts.prompts,
        processing_class=parts.processor,
        peft_config=parts.adapters,
    )
    with start.folder(recipe) as folder:
        trainer.bounds = recipe.bad_steps
        return _train(trainer, folder, begin, CardWriter(recipe, "sft", checkpoint, folder))


def set_loader(args: TrainingArguments, said: Mapping[str, Any], in_memory: bool) -> None:
    """The loader's settings that `said` (the recipe's section) leaves open;  in_memory: data.keep_in_memory.

    Rows kept in memory are kept where they are made, once in each worker: better made in this process. Workers make
    the rows of one optimizer step ahead, and no more; they live on from epoch to epoch.
    """
    if "dataloader_num_workers" not in said:
        args.dataloader_num_workers = 0 if in_memory or (os.cpu_count() or 1) == 1 else WORKERS
    workers = args.dataloader_num_workers
    if not workers:
        return
    if in_memory:
        logger.warning("data.keep_in_memory with dataloader_num_workers=%d: each worker keeps its own copy", workers)
    if "dataloader_persistent_workers" not in said:
        args.dataloader_persistent_workers = True
    if "dataloader_prefetch_factor" not in said:
        # the batches of later iterations (num_iterations) take up places among those ahead, and cost nothing
        ahead = args.gradient_accumulation_steps * getattr(args, "num_iterations", 1)
        args.dataloader_prefetch_factor = math.ceil(ahead / workers)


def _check_output(recipe: Recipe) -> None:
    """The Trainer makes the folder while it is built; what is wrong with it is said before."""
    try:
        Path(recipe.output_dir).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AvstError(f"{recipe.output_dir}: the run's folder cannot be made: {error.strerror}") from error


def _seen_by_all(path: str) -> RunFolder:
    """The folder that the main process has opened. AvstError on a host that does not see it: its checkpoints would lack
    this host's part, and nobody would know before a resume."""
    patience = time.monotonic() + SEEN_WITHIN
    while not (Path(path) / "run.json").is_file():
        if time.monotonic() > patience:
            raise AvstError(
                f"{path}: not seen on host {socket.gethostname()}: output_dir must be a folder that all hosts share"
            )
        time.sleep(0.1)
    return RunFolder(path)


def _warn_of_narrow_weights(trainer: GRPOTrainer) -> None:
    """A step of 1e-6 is far below half an ulp of a bfloat16 weight of 0.02: nearly every update would be rounded away.

    DeepSpeed keeps float32 copies and peft's adapters are float32; elsewhere the weights themselves must be.
    """
    narrow = {p.dtype for p in trainer.model.parameters() if p.requires_grad} & {torch.bfloat16, torch.float16}
    if narrow and not trainer.is_deepspeed_enabled:
        logger.warning(
            "trainable weights are %s and no engine keeps float32 copies: small updates are rounded away; "
            "set model.dtype=float32 (and grpo.bf16=true to compute in bfloat16)",
            narrow.pop(),
        )


@dataclass(frozen=True)
class _Start:
    """How a run was asked to begin: afresh, or from a checkpoint of its own."""

    command: str
    checkpoint: str | Path | None
    overwrite: bool
    resume: str | None
    allow_changes: bool

    def prepared(self, recipe: Recipe) -> _Begin:
        """What its checkpoints belong to, and the one to go on from. Nothing is deleted or written yet but an empty
        folder. Raises AvstError."""
        if self.resume is not None and self.overwrite:
            raise AvstError("--resume goes on from what --overwrite would delete: give one of them")
        _check_output(recipe)
        now = about(recipe, self.command, self.checkpoint) if processes().is_main_process else {}
        run = Path(recipe.output_dir)
        if self.resume is None:
            return _Begin(now, None)
        return _Begin(now, choose(run, self.resume, now, self.allow_changes))

    @contextmanager
    def folder(self, recipe: Recipe) -> Iterator[RunFolder]:
        """The run's folder, opened by the main process before the others use it, and kept from other runs."""
        state = processes()
        with ExitStack() as stack:
            with state.main_process_first():
                if state.is_main_process:
                    stack.enter_context(held(Path(recipe.output_dir)))
                    folder = RunFolder.open(
                        recipe,
                        self.command,
                        overwrite=self.overwrite,
                        checkpoint=self.checkpoint,
                        allow_changes=self.allow_changes,
                    )
                else:
                    keep_tracebacks_in(Path(recipe.output_dir))
                    folder = _seen_by_all(recipe.output_dir)
            yield folder


@dataclass(frozen=True)
class _Begin:
    about: dict[str, Any]
    checkpoint: Path | None


def _train(trainer: RowTrainer, folder: RunFolder, begin: _Begin, cards: CardWriter) -> Path:
    trainer.about = begin.about
    bound_waiting(trainer.args.ddp_timeout)
    logs.install(trainer, folder)
    trainer.add_callback(cards)
    stop = trainer.stop = StopOnSignal(trainer.highest, trainer.may_save)
    trainer.add_callback(stop)
    try:
        trainer.train(resume_from_checkpoint=None if begin.checkpoint is None else str(begin.checkpoint))
        if stop.signum:
            step = trainer.state.global_step
            raise Interrupted(
                stop.signum, f"stopped at step {step}, checkpoint-{step} is kept: avst resume {folder.path}"
            )
        final = folder.path / "final"
        trainer.save_model(str(final))
    finally:
        stop.restore()
    if processes().is_main_process:
        cards.write(final, trainer.state.global_step)
        print(f"saved {final}")
    return final
