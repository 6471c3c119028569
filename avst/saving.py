"""What both trainers do with checkpoints: whole or not at all, and all that a run needs to go on as if nothing had
happened.

transformers saves weights, optimizer, scheduler, random states and the position in the data. What it leaves out is
kept beside them: what has been measured since the last log line, so that the lines after a resume are those of a run
that was never interrupted.
"""

from __future__ import annotations

import json
import pickle
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from avst.checkpoints import SAVING, is_full, make_room, no_space, publish, seal, thin_out
from avst.durable import write_atomically
from avst.errors import AvstError
from avst.hub import HubTrainer
from avst.interrupt import StopOnSignal

MEASURED = "measured_{rank}.json"
SLACK = 1.05  # a checkpoint beside its weights and optimizer: tokenizer, states, manifest


class AtomicTrainer(HubTrainer):
    """A Trainer whose checkpoints are written aside, sealed and renamed (avst.checkpoints).

    about: what its checkpoints belong to, kept in their manifests;  stop: what hears the signals.
    """

    about: Mapping[str, Any] = {}
    _aside: Path | None = None
    stop: StopOnSignal | None = None
    _steps_before = 0  # of earlier starts of this run
    _began = 0.0

    def measured(self) -> dict[str, Any]:
        """What is known since the last log line, for JSON. A subclass adds its own."""
        return {
            "loss": float(self._tr_loss),
            "total_loss": float(self._total_loss_scalar),
            "last_logged": int(self._globalstep_last_logged),
        }

    def go_on_measuring(self, state: Mapping[str, Any]) -> None:
        """The contrary of `measured`."""
        self._tr_loss = torch.tensor(float(state["loss"]), device=self.args.device)
        self._total_loss_scalar = float(state["total_loss"])
        self._globalstep_last_logged = int(state["last_logged"])
        # the last line's train_loss is the mean over the whole run then; `log` mends what this does to its pace
        self._steps_before, self._initial_global_step = self.state.global_step, 0

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "train_runtime" in logs and self.stop is not None and self.stop.signum:
            return  # the sum of a whole run, and this one has only been interrupted
        if "train_runtime" in logs:
            logs = self._by_a_steady_clock(logs)
        if "train_runtime" in logs and self._steps_before:
            mine = 1 - self._steps_before / max(self.state.global_step, 1)
            logs = {key: value * mine if key.endswith("_per_second") else value for key, value in logs.items()}
        super().log(logs, start_time)

    def train(self, *args: Any, **kwargs: Any) -> Any:
        self._began = time.monotonic()
        return super().train(*args, **kwargs)

    def _by_a_steady_clock(self, logs: dict[str, float]) -> dict[str, float]:
        """The library takes the run's time from a clock that can be set: where it was, its rates mean nothing."""
        seconds = time.monotonic() - self._began
        if abs(seconds - logs["train_runtime"]) < 60.0:
            return logs
        kept = {key: value for key, value in logs.items() if not key.endswith("_per_second")}
        return {**kept, "train_runtime": round(seconds, 4)}

    def may_save(self) -> bool:
        """Whether a run could go on from here; where it could not, the checkpoint is made as soon as it can."""
        return True

    def highest(self, number: int) -> int:
        """The highest of all processes' numbers."""
        if self.args.world_size == 1:
            return number
        each = self.accelerator.gather(torch.tensor([number], device=self.args.device))
        return int(each.max())

    # ---- saving ------------------------------------------------------------------------------------------------------

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._aside) if self._aside is not None else super()._get_output_dir(trial)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        run = Path(super()._get_output_dir(trial))
        name = f"checkpoint-{self.state.global_step}"
        aside = run / SAVING
        with self._together(run):
            if self.args.should_save:
                shutil.rmtree(aside, ignore_errors=True)
                (aside / name).mkdir(parents=True)
                make_room(run, self.checkpoint_bytes())
        self._aside = aside
        try:
            with self._together(run, inside=True):
                super()._save_checkpoint(model, trial)
                self._name_the_best(run, aside / name)
                measured = aside / name / MEASURED.format(rank=self.args.process_index)
                write_atomically(measured, json.dumps(self.measured()) + "\n")
        finally:
            self._aside = None
        with self._together(run):
            if self.args.should_save:
                seal(aside / name, self.about)
                publish(aside / name, run / name)
                shutil.rmtree(aside, ignore_errors=True)
                thin_out(run, self.args.save_total_limit, self.state.best_model_checkpoint)
        if self.args.push_to_hub:
            self._push_from_checkpoint(str(run / name))

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Called by the library while the checkpoint is still being written, where it has not got its name, and by
        _save_checkpoint when it has: the upload goes on beside the training."""
        if self._aside is None:
            super()._push_from_checkpoint(checkpoint_folder)

    def _name_the_best(self, run: Path, written: Path) -> None:
        """load_best_model_at_end: the library has looked for the best checkpoint beside the one being written."""
        if self.state.best_global_step:
            self.state.best_model_checkpoint = str(run / f"checkpoint-{self.state.best_global_step}")
            if self.args.should_save:
                self.state.save_to_json(str(written / "trainer_state.json"))

    def checkpoint_bytes(self) -> int:
        """About what the next checkpoint takes on the disk: weights and the optimizer's state, of all processes."""
        kept = {id(p): p for p in self.model.parameters()}.values()  # type: ignore[union-attr]
        # ZeRO-3's parameters are empty here, and say how large they are
        weights = sum(getattr(p, "ds_numel", p.numel()) * p.element_size() for p in kept)
        if self.is_deepspeed_enabled:  # its own copy of the weights, and 12 bytes for each that trains: Adam in float32
            trained = sum(getattr(p, "ds_numel", p.numel()) for p in kept if p.requires_grad)
            return int(SLACK * (2 * weights + 12 * trained))
        state = getattr(self.optimizer, "state", {})
        tensors = [t for each in state.values() for t in each.values() if isinstance(t, torch.Tensor)]
        copies = 2 if self.is_fsdp_enabled else 1  # transformers' file and accelerate's
        return int(SLACK * (copies * weights + sum(t.numel() * t.element_size() for t in tensors)))

    @contextmanager
    def _together(self, run: Path, inside: bool = False) -> Iterator[None]:
        """Go on when all processes have come to the end of the block; what failed on one of them ends all.

        inside: the block is the library's own saving, which has collectives where an engine shares things out.
        """
        failure: BaseException | None = None
        try:
            yield
        except Exception as error:  # said by every process in the same words
            failure = error
            if inside and (self.is_deepspeed_enabled or self.is_fsdp_enabled):
                # the others are in the engine's collectives, and hear of it from avst.together
                raise AvstError(_said(error, run, self.checkpoint_bytes)) from error
        said = _said(failure, run, self.checkpoint_bytes) if failure is not None else ""
        everyone = gather_object([said]) if self.args.world_size > 1 else [said]
        if words := next(filter(None, everyone), ""):
            if self.args.should_save:
                shutil.rmtree(run / SAVING, ignore_errors=True)
            raise AvstError(words) from failure

    # ---- going on ----------------------------------------------------------------------------------------------------

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        with _states_alone(checkpoint):
            super()._load_optimizer_and_scheduler(checkpoint)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        """Called once, when the loop stands where the checkpoint was made."""
        with _states_alone(checkpoint):
            super()._load_rng_state(checkpoint)
        if checkpoint is None:
            return
        file = Path(checkpoint) / MEASURED.format(rank=self.args.process_index)
        if file.is_file():  # another number of processes has none for some
            self.go_on_measuring(json.loads(file.read_text(encoding="utf-8")))


class SaveLater(TrainerCallback):
    """A checkpoint that falls where a run could not go on from is made at the next step where it could."""

    def __init__(self, may_save: Callable[[], bool]) -> None:
        self.may_save, self.due = may_save, False

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        self.due |= control.should_save
        control.should_save = self.due and self.may_save()
        self.due &= not control.should_save
        return control


@contextmanager
def _states_alone(checkpoint: str | None) -> Iterator[None]:
    """torch's weights-only reader refuses what is more than tensors and plain values, and has run nothing of it."""
    try:
        yield
    except pickle.UnpicklingError as error:
        why = next((line.strip() for line in str(error).splitlines() if "GLOBAL" in line or "Unsupported" in line), "")
        raise AvstError(f"{checkpoint}: its states hold more than numbers, and are not opened: {why[:200]}") from error


def _said(error: BaseException, run: Path, needed: Callable[[], int]) -> str:
    if isinstance(error, AvstError):
        return str(error)
    if is_full(error):
        return no_space(run, needed(), shutil.disk_usage(run).free)
    return f"{run}: the checkpoint cannot be written: {type(error).__name__}: {error}; earlier ones are kept"
