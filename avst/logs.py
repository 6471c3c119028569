"""What a run says while it trains: every log line to metrics.jsonl, and progress with time left to the screen.

`install(trainer, folder)` puts these in place of the library's own progress bar. Loggers named by `report_to` stay,
and may fail (avst.forgiving).
"""

from __future__ import annotations

import atexit
import logging
import sys
import time
from collections import deque
from collections.abc import Mapping
from typing import Any, TextIO

from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from avst.forgiving import forgive_trackers
from avst.progress import Clock, Pace, is_terminal
from avst.run_folder import RunFolder

logger = logging.getLogger(__name__)

UNWRITTEN = 10_000  # log lines at most that wait for a disk with room
# What the screen shows, in this order, each where it was logged; metrics.jsonl has everything.
SHOWN = {
    "reward": "reward",
    "frac_reward_zero_std": "flat groups",
    "loss": "loss",
    "kl": "kl",
    "entropy": "entropy",
    "completions/mean_length": "length",
    "completions/clipped_ratio": "cut off",
    "samples/skipped": "skipped",
    "steps/skipped": "no update",
}
NOT_ZERO = {"samples/skipped", "steps/skipped"}  # worth a word only when it happens


class JsonlCallback(TrainerCallback):
    """Every log of the Trainer -> one line of metrics.jsonl, with the step, the steps there will be and the seconds
    since training began."""

    def __init__(self, folder: RunFolder, clock: Clock = time.monotonic) -> None:
        self.folder, self.clock = folder, clock
        self.began = clock()
        self.unwritten: deque[dict[str, Any]] = deque(maxlen=UNWRITTEN)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.began = self.clock()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if state.is_world_process_zero and logs:
            elapsed = round(self.clock() - self.began, 3)
            when = {"time_s": round(time.time(), 3), "max_steps": state.max_steps}
            self.unwritten.append({"step": state.global_step, "elapsed_s": elapsed, **logs, **when})
            self._write()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._write()
        if self.unwritten:
            logger.warning("%d lines of metrics.jsonl were never written", len(self.unwritten))

    def _write(self) -> None:
        """All lines that wait. Where the disk takes none they go on waiting: a log line is no reason to end a run."""
        waited = len(self.unwritten) > 1
        try:
            while self.unwritten:
                self.folder.log(self.unwritten[0])
                self.unwritten.popleft()
        except OSError as error:
            if not waited:
                logger.warning(
                    "%s/metrics.jsonl cannot be written (%s); training goes on, and its lines wait for a better time",
                    *(self.folder.path, error),
                )


class PlainProgress(TrainerCallback):
    """`step 12/100  reward 0.41  loss 0.0123  3.2 s/step  left 4:40`, a line a log, and one every `every_s` seconds."""

    def __init__(self, stream: TextIO | None = None, every_s: float = 30.0, clock: Clock = time.monotonic) -> None:
        self.stream = sys.stderr if stream is None else stream
        self.every_s, self.clock = every_s, clock
        self.pace = Pace(0, clock=clock)
        self.said_at, self.said_step = clock(), -1

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.pace = Pace(state.max_steps, state.global_step, clock=self.clock)
        self.said_at = self.clock()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.pace.advance(state.global_step)
        due = self.clock() - self.said_at >= self.every_s
        if state.is_world_process_zero and due and not control.should_log:
            self._say({})

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if state.is_world_process_zero and logs:
            self._say(logs)

    def _say(self, logs: Mapping[str, Any]) -> None:
        words = [f"step {self.pace.done}/{self.pace.total}", *shown(logs), self.pace.words()]
        print("  ".join(word for word in words if word), file=self.stream, flush=True)
        self.said_at = self.clock()


class BarProgress(TrainerCallback):
    """A rich bar with time left; the newest figures stand beside it."""

    def __init__(self, stream: TextIO | None = None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self.pace = Pace(0)
        self.task: Any = None
        self.bar = Progress(
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(bar_width=24),
            TimeElapsedColumn(),
            TextColumn("{task.fields[pace]}"),
            TextColumn("{task.fields[figures]}"),
            console=Console(file=sys.stderr if stream is None else stream),
        )

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.pace = Pace(state.max_steps, state.global_step)
        if state.is_world_process_zero:
            self.task = self.bar.add_task("", total=state.max_steps, completed=state.global_step, pace="", figures="")
            self.bar.start()
            atexit.register(self.bar.stop)  # an error must not leave the terminal without its cursor

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.pace.advance(state.global_step)
        if self.task is not None:
            self.bar.update(self.task, completed=state.global_step, pace=self.pace.words())

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if self.task is not None and (figures := shown(logs or {})):
            self.bar.update(self.task, figures="  ".join(figures))

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.task is not None:
            self.bar.stop()
            atexit.unregister(self.bar.stop)


def shown(logs: Mapping[str, Any]) -> list[str]:
    """The figures that the screen shows. Example: shown({"reward": 0.41, "kl": 0}) == ["reward 0.41", "kl 0"]."""
    return [
        f"{words} {float(logs[name]):.3g}"
        for name, words in SHOWN.items()
        if name in logs and (float(logs[name]) or name not in NOT_ZERO)
    ]


def progress(stream: TextIO | None = None) -> TrainerCallback:
    """The progress callback that suits the stream (standard error)."""
    stream = sys.stderr if stream is None else stream
    return BarProgress(stream) if is_terminal(stream) else PlainProgress(stream)


def install(trainer: Trainer, folder: RunFolder, stream: TextIO | None = None) -> None:
    """Give a trainer metrics.jsonl and progress, in place of the library's bar and printed dicts."""
    for theirs in (ProgressCallback, PrinterCallback):
        trainer.remove_callback(theirs)
    forgive_trackers(trainer)
    trainer.add_callback(JsonlCallback(folder))
    trainer.add_callback(progress(stream))
