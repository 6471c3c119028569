"""A finished run handed to TensorBoard, trackio and wandb: transformers' names, the steps, the clock times."""

from __future__ import annotations

import importlib.machinery
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from avst import trackers
from avst.cli import main
from avst.errors import AvstError

ROWS = [
    {"step": 1, "elapsed_s": 2.0, "reward": 0.5, "rewards/format/mean": 1.0, "eval_x": 3, "time_s": 1000.5, "start": 0},
    {"step": 2, "elapsed_s": 4.0, "reward": 0.75, "kl": None, "time_s": 1002.5, "start": 0, "max_steps": 2},
    {"step": 2, "elapsed_s": 4.0, "train_runtime": 4.0, "time_s": 1003.0, "start": 0},
]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "my_run"
    folder.mkdir()
    lines = [json.dumps(row) for row in ROWS]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + '\n{"step": 3, "rew')
    (folder / "recipe.yaml").write_text("name: a\nseed: 4\n")
    return folder


def fake(monkeypatch: pytest.MonkeyPatch, name: str, **members: Any) -> ModuleType:
    module = ModuleType(name)
    module.__spec__ = importlib.machinery.ModuleSpec(name, None, origin="fake")
    for key, value in members.items():
        setattr(module, key, value)
    monkeypatch.setitem(sys.modules, name, module)
    return module


def test_tensorboard_reads_what_was_logged(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    assert main(["log", str(run)]) == 0
    events = accumulator.EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    found = {tag: [(e.step, e.wall_time, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    assert found == {
        "train/reward": [(1, 1000.5, 0.5), (2, 1002.5, 0.75)],
        "train/rewards/format/mean": [(1, 1000.5, 1.0)],
        "eval/x": [(1, 1000.5, 3.0)],
        "train/train_runtime": [(2, 1003.0, 4.0)],
    }
    assert main(["log", str(run)]) == 1
    assert "holds events already" in capsys.readouterr().err


def test_names_are_those_of_transformers() -> None:
    from transformers.integrations.integration_utils import rewrite_logs

    logs = {"reward": 1.0, "rewards/format/mean": 0.5, "eval_loss": 2.0, "test_loss": 3.0, "learning_rate": 1e-6}
    assert trackers.named(logs) == rewrite_logs(logs)


def test_trackio_gets_steps_and_times(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    storage = SimpleNamespace(
        get_runs=lambda project: ["old"], bulk_log=lambda *words, **more: calls.append((words, more))
    )
    fake(monkeypatch, "trackio")
    fake(monkeypatch, "trackio.sqlite_storage", SQLiteStorage=storage)
    assert main(["log", str(run), "--to", "trackio", "--project", "p"]) == 0
    (((project, name, figures), more),) = calls
    assert (project, name, more["steps"]) == ("p", "my_run", [1, 2, 2])
    assert figures[1] == {"train/reward": 0.75, "train/global_step": 2}
    assert figures[2] == {"train/global_step": 2}  # transformers tells trackio no summary either
    assert more["timestamps"][0] == "1970-01-01T00:16:40.500000+00:00"
    assert more["config"] == {"name": "a", "seed": 4}
    assert main(["log", str(run), "--to", "trackio", "--name", "old"]) == 1


def test_wandb_gets_steps_times_and_a_summary(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[Any] = []
    summary: dict[str, Any] = {}
    theirs = SimpleNamespace(log=lambda row, step: logged.append((step, row)), summary=summary, finish=lambda: None)
    fake(monkeypatch, "wandb", init=lambda **words: theirs, errors=SimpleNamespace(Error=RuntimeError))
    assert main(["log", str(run), "--to", "wandb"]) == 0
    assert logged[1] == (2, {"train/reward": 0.75, "train/global_step": 2, "_timestamp": 1002.5})
    assert len(logged) == 2
    assert summary == {"train_runtime": 4.0}


@pytest.mark.parametrize("name", ["trackio", "wandb"])
def test_what_is_not_installed_is_one_line(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], run: Path
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda module: None)
    assert main(["log", str(run), "--to", name]) == 1
    assert f"{name} is not installed: pip install {name}" in capsys.readouterr().err
    with pytest.raises(AvstError, match="not installed"):
        trackers.require(["none", name])


def test_a_folder_without_a_log_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["log", str(tmp_path)]) == 1
    assert "there is no log of a run here" in capsys.readouterr().err
