"""What only records a run never ends it: trackers, metrics.jsonl, saved answers, the Hub."""

from __future__ import annotations

import json
import logging
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import TrainerCallback
from transformers.integrations import TensorBoardCallback

from avst import logs
from avst.checkpoints import MANIFEST, problems
from avst.errors import AvstError
from avst.forgiving import forgiving_sink
from avst.run_folder import RunFolder
from tests.grpo_world import clip_rows, make_trainer, weights
from tests.test_exact_resume import same
from tests.test_logs import trainer_in


class Tracker(TrainerCallback):
    """A logger of the library's, by its module; fails in the events named."""

    __module__ = "transformers.integrations.fake"

    def __init__(self, *failing: str) -> None:
        self.failing, self.told = failing, []

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        self._fail("begin")

    def on_log(self, *args: Any, logs: Any = None, **kwargs: Any) -> None:
        self.told.append(logs)
        self._fail("log")

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        self._fail("end")

    def _fail(self, event: str) -> None:
        if event in self.failing:
            raise ConnectionError("the network\nis down")


@pytest.mark.parametrize("failing", [("begin",), ("log",), ("end",), ("begin", "log", "end"), ()])
def test_a_tracker_that_fails_is_said_once(tmp_path: Path, failing: tuple[str, ...], caplog: Any) -> None:
    trainer, tracker = trainer_in(tmp_path), Tracker(*failing)
    trainer.args.logging_steps = 1
    trainer.add_callback(tracker)
    logs.install(trainer, RunFolder(tmp_path))
    with caplog.at_level(logging.WARNING):
        trainer.train()
    plain = trainer_in(tmp_path / "plain")
    plain.args.logging_steps = 1
    plain.train()
    assert same(weights(trainer), weights(plain))
    assert [row["step"] for row in RunFolder(tmp_path).metrics()] == [1, 2, 3, 4, 4]
    said = caplog.text.count("Tracker failed (ConnectionError: the network is down); training goes on")
    assert said == min(1, len(failing))
    # left alone after three failures in a row
    assert len(tracker.told) == (5 if "log" not in failing else 2 if "begin" in failing else 3)


def test_a_full_disk_for_the_events_of_tensorboard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", "/dev/full/events")  # no folder can be made there
    trainer = trainer_in(tmp_path)
    trainer.add_callback(TensorBoardCallback())
    logs.install(trainer, RunFolder(tmp_path))
    with caplog.at_level(logging.WARNING):
        trainer.train()
    assert "TensorBoard failed (" in caplog.text
    assert [row["step"] for row in RunFolder(tmp_path).metrics()] == [2, 4, 4]


def test_log_lines_wait_for_a_disk_with_room(tmp_path: Path, caplog: Any) -> None:
    """/dev/full takes no byte; the disk has room again after step 3."""
    trainer = trainer_in(tmp_path)
    trainer.args.logging_steps = 1
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")

    class MakeRoom(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 3:
                (tmp_path / "metrics.jsonl").unlink()

    trainer.add_callback(MakeRoom())
    logs.install(trainer, RunFolder(tmp_path))
    with caplog.at_level(logging.WARNING):
        trainer.train()
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 4]
    assert [row["loss"] for row in rows[:4]] == [line["loss"] for line in trainer.state.log_history[:4]]
    assert caplog.text.count("metrics.jsonl cannot be written ([Errno 28]") == 1


def test_a_disk_that_stays_full_is_said_at_the_end(tmp_path: Path, caplog: Any) -> None:
    trainer = trainer_in(tmp_path)
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    logs.install(trainer, RunFolder(tmp_path))
    with caplog.at_level(logging.WARNING):
        trainer.train()
    assert trainer.state.global_step == 4
    assert "3 lines of metrics.jsonl were never written" in caplog.text


def test_answers_that_the_disk_does_not_take(caplog: Any) -> None:
    kept: list[int] = []

    def write(step: int, rows: Any) -> None:
        if step < 3:
            raise OSError(28, "No space left on device")
        if step == 4:
            raise ValueError("a bug")
        kept.append(step)

    sink = forgiving_sink(write)
    with caplog.at_level(logging.WARNING):
        for step in (1, 2, 3):
            sink(step, [])
    assert kept == [3]
    assert caplog.text.count("the answers of step") == 1
    with pytest.raises(ValueError, match="a bug"):
        sink(4, [])


class Hub:
    """In place of the Hub's client. Of the pushes the first is refused, the second breaks off, the others arrive."""

    def __init__(self) -> None:
        self.pushed: list[tuple[str, list[str]]] = []

    def create_repo(self, *args: Any, **kwargs: Any) -> Any:
        return SimpleNamespace(repo_id="me/model")

    def upload_folder(self, folder_path: str, **kwargs: Any) -> Future[None]:
        files = sorted(path.name for path in Path(folder_path).iterdir())
        self.pushed.append((folder_path, files))
        future: Future[None] = Future()
        if len(self.pushed) == 1:
            raise ConnectionError("the network is down")
        if len(self.pushed) == 2:
            future.set_exception(TimeoutError("it broke off"))
        else:
            future.set_result(None)
        return future


def test_a_hub_that_is_down(
    tiny_folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """Checkpoints are pushed from the place they keep, whole, and stay there."""
    hub, folder = Hub(), tiny_folders["qwen2_5_vl"]
    monkeypatch.setattr("transformers.trainer.hf_api", lambda: hub)
    saving: dict[str, Any] = {"max_steps": 3, "save_strategy": "steps", "save_steps": 1}
    pushing = {"push_to_hub": True, "hub_model_id": "me/model", "hub_strategy": "all_checkpoints"}
    trainer = make_trainer(folder, tmp_path / "a", clip_rows(folder), **saving, **pushing)
    with caplog.at_level(logging.WARNING):
        trainer.train()
        monkeypatch.setattr(trainer, "push_to_hub", lambda **_: hub.upload_folder(str(tmp_path / "nowhere")))
        trainer.save_model(str(tmp_path / "final"))
    assert f"not pushed to the Hub (ConnectionError: the network is down); {tmp_path}/a/checkpoint-1" in caplog.text
    assert "not pushed to the Hub (TimeoutError: it broke off)" in caplog.text
    assert f"not pushed to the Hub (FileNotFoundError: [Errno 2] No such file or directory: '{tmp_path}" in caplog.text
    assert (tmp_path / "final" / "model.safetensors").exists()
    checkpoints = [(path, files) for path, files in hub.pushed if "checkpoint-" in path]
    assert [path for path, _ in checkpoints] == [str(tmp_path / "a" / f"checkpoint-{step}") for step in (2, 3)]
    assert all(MANIFEST in files and "model.safetensors" in files for _, files in checkpoints)
    assert all(".saving" not in files for _, files in hub.pushed)
    for step in (1, 2, 3):
        assert problems(tmp_path / "a" / f"checkpoint-{step}") == []
    plain = make_trainer(folder, tmp_path / "b", clip_rows(folder), max_steps=3)
    plain.train()
    assert same(weights(trainer), weights(plain))


def test_a_hub_that_is_down_at_the_start_is_one_line(
    tiny_folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(*args: Any, **kwargs: Any) -> Any:
        raise ConnectionError("the network\nis down")

    monkeypatch.setattr("transformers.trainer.hf_api", lambda: SimpleNamespace(create_repo=down))
    folder = tiny_folders["qwen2_5_vl"]
    with pytest.raises(
        AvstError, match="push_to_hub: the repository me/model cannot be reached or made: Conn"
    ) as error:
        make_trainer(folder, tmp_path, clip_rows(folder), push_to_hub=True, hub_model_id="me/model")
    assert "\n" not in str(error.value)
