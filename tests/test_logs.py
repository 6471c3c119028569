"""The callbacks in a real Trainer: every log line on disk, progress on the screen."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Trainer, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from avst import logs
from avst.run_folder import RunFolder
from tests.test_progress import Clock, Terminal


class Line(torch.nn.Module):
    """y = w·x on one weight: a model for a Trainer that needs none of ours."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": ((self.weight * x - labels) ** 2).mean()}


def trainer_in(folder: Path, **options: Any) -> Trainer:
    args = TrainingArguments(
        str(folder), max_steps=4, logging_steps=2, save_strategy="no", use_cpu=True, report_to="none", **options
    )
    rows = [{"x": torch.ones(1), "labels": torch.ones(1)} for _ in range(8)]
    return Trainer(Line(), args, train_dataset=rows)


@pytest.mark.parametrize("disable_tqdm", [False, True])
def test_install_in_a_real_trainer(tmp_path: Path, disable_tqdm: bool, capsys: pytest.CaptureFixture[str]) -> None:
    trainer = trainer_in(tmp_path, disable_tqdm=disable_tqdm)
    stream, folder = io.StringIO(), RunFolder(tmp_path)
    logs.install(trainer, folder, stream)
    kinds = [type(callback) for callback in trainer.callback_handler.callbacks]
    assert ProgressCallback not in kinds
    assert PrinterCallback not in kinds
    trainer.train()
    rows = folder.metrics()
    assert [row["step"] for row in rows] == [2, 4, 4]
    history = trainer.state.log_history
    assert [row["loss"] for row in rows[:2]] == [entry["loss"] for entry in history[:2]]
    assert rows[2]["train_loss"] == history[2]["train_loss"]
    assert all(row["time_s"] > 1.7e9 and row["elapsed_s"] >= 0 for row in rows)
    lines = stream.getvalue().splitlines()
    assert lines[0].startswith(f"step 2/4  loss {history[0]['loss']:.3g}  ")
    assert "s/step  left 0:0" in lines[0]
    assert "{" not in capsys.readouterr().out  # the library's printed dicts are gone


def test_a_plain_line_reads_as_promised() -> None:
    clock, stream = Clock(), io.StringIO()
    callback = logs.PlainProgress(stream, clock=clock)
    args: Any = None
    state, control = TrainerState(max_steps=100, is_world_process_zero=True), TrainerControl()
    callback.on_train_begin(args, state, control)
    for step in range(1, 13):
        clock.now += 3.2
        state.global_step, control.should_log = step, step == 12
        callback.on_step_end(args, state, control)
    callback.on_log(args, state, control, {"loss": 0.0123, "reward": 0.41, "grad_norm": 2.0, "samples/skipped": 0})
    # after 30 s a sign of life, though nothing was logged
    assert stream.getvalue().splitlines() == [
        "step 10/100  3.2 s/step  left 4:48",
        "step 12/100  reward 0.41  loss 0.0123  3.2 s/step  left 4:42",
    ]


def test_other_processes_say_and_write_nothing(tmp_path: Path) -> None:
    clock, stream = Clock(), io.StringIO()
    state = TrainerState(max_steps=3, is_world_process_zero=False)
    args: Any = None
    for callback in (logs.PlainProgress(stream, clock=clock), logs.JsonlCallback(RunFolder(tmp_path))):
        callback.on_train_begin(args, state, TrainerControl())
        clock.now += 100
        state.global_step += 1
        callback.on_step_end(args, state, TrainerControl())
        callback.on_log(args, state, TrainerControl(), {"loss": 1.0})
    assert stream.getvalue() == ""
    assert list(tmp_path.iterdir()) == []


def test_skipped_samples_are_shown_when_there_are_any() -> None:
    assert logs.shown({"samples/skipped": 0, "kl": 0.0}) == ["kl 0"]
    assert logs.shown({"samples/skipped": 2, "reward": 0.4567}) == ["reward 0.457", "skipped 2"]


def test_a_terminal_gets_a_bar_with_time_left(tmp_path: Path) -> None:
    assert isinstance(logs.progress(io.StringIO()), logs.PlainProgress)
    stream = Terminal()
    trainer = trainer_in(tmp_path)
    logs.install(trainer, RunFolder(tmp_path), stream)
    assert any(isinstance(callback, logs.BarProgress) for callback in trainer.callback_handler.callbacks)
    trainer.train()
    assert "4/4" in stream.getvalue()
    assert "left" in stream.getvalue()
    assert "\x1b[?25h" in stream.getvalue()  # the cursor is given back
