"""SIGTERM and Ctrl-C while training: the step is finished, one checkpoint is made, and the run ends. A second one ends
it at once.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from avst.errors import EndedElsewhere
from avst.together import first_failure

SIGNALS = (signal.SIGTERM, signal.SIGINT)
ONCE = 2.0  # seconds within which a launcher's word and the one it passes on are one


class StopOnSignal(TrainerCallback):
    """Turns the first signal into a checkpoint and the end of training.

    highest: the highest of all processes' numbers: a signal that reached one of them ends all at the same step;
    may_save: whether a run could go on from the present step.
    """

    def __init__(self, highest: Callable[[int], int], may_save: Callable[[], bool]) -> None:
        self.highest, self.may_save = highest, may_save
        self.heard = 0  # on this process
        self.signum = 0  # on any
        self._since = 0.0  # when it was heard
        self._before: dict[int, Any] = {}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if threading.current_thread() is threading.main_thread():  # Python allows it there alone
            self._before = {number: signal.signal(number, self._hear) for number in SIGNALS}

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        self.signum = self.highest(self.heard)
        if self.signum and self.may_save():
            control.should_save = control.should_training_stop = True
        return control

    def restore(self) -> None:
        """The handlers that were there before. Not at on_train_end: weights are still being saved then."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if (why := first_failure()) is not None:  # the launcher ends the others when one process has failed
            raise EndedElsewhere(why)
        if self.heard:
            if "TORCHELASTIC_RUN_ID" in os.environ and time.monotonic() - self._since < ONCE:
                return  # Ctrl-C reaches every process of a terminal, and the launcher passes it on as SIGTERM
            self.restore()
            signal.raise_signal(number)
            return
        self.heard, self._since = number, time.monotonic()
        name = signal.Signals(number).name
        print(f"\navst: {name}: this step, then a checkpoint; once more ends it at once", file=sys.stderr, flush=True)
