"""A small run in a process of its own, for tests that kill it: python -m tests.scripts.killed_run RECIPE [--resume].

Prints a line a step, so that the test knows where it is.
"""

from __future__ import annotations

import sys

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from avst import runs
from avst.cli import main


class Say(TrainerCallback):
    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        print(f"step {state.global_step}", flush=True)


def install(trainer: object, folder: object, original: object = runs.logs.install) -> None:
    original(trainer, folder)  # type: ignore[operator]
    trainer.add_callback(Say())  # type: ignore[attr-defined]


runs.logs.install = install  # type: ignore[assignment]
raise SystemExit(main(sys.argv[1:]))
