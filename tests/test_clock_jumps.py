"""A clock that is set, by years, forwards and back: durations stay true, and checkpoints go by their step."""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path

import pytest

from avst import logs
from avst.bounded_folder import BoundedFolder
from avst.checkpoints import found_in, newest_whole
from avst.plugins import RewardSpec
from avst.run_folder import RunFolder
from tests.grpo_world import clip_rows, make_trainer
from tests.test_scoring import ROUGH, asked, score

YEARS = 10 * 365 * 86400.0


@pytest.fixture
def jumping(monkeypatch: pytest.MonkeyPatch) -> None:
    now, jumps = time.time, itertools.cycle([0.0, YEARS, -YEARS])
    monkeypatch.setattr(time, "time", lambda: now() + next(jumps))
    monkeypatch.setattr(time, "time_ns", lambda: int((now() + next(jumps)) * 1e9))


@pytest.mark.usefixtures("jumping")
def test_a_run_under_a_clock_that_jumps(tiny_folders: dict[str, Path], tmp_path: Path) -> None:
    folder, began = tiny_folders["qwen2_5_vl"], time.monotonic()
    saving = {"max_steps": 4, "save_strategy": "steps", "save_steps": 1, "save_total_limit": 3}
    trainer = make_trainer(folder, tmp_path, clip_rows(folder), **saving)
    logs.install(trainer, RunFolder(tmp_path))

    def shuffle_times(*_: object) -> None:
        for checkpoint in tmp_path.glob("checkpoint-*"):
            os.utime(checkpoint, (0, -int(checkpoint.name.rpartition("-")[2]) * YEARS))

    save = trainer._save_checkpoint

    def then_shuffle(*args: object) -> None:
        save(*args)  # type: ignore[arg-type]
        shuffle_times()

    trainer._save_checkpoint = then_shuffle  # type: ignore[method-assign, assignment]
    trainer.train()
    took = time.monotonic() - began
    rows = RunFolder(tmp_path).metrics()
    elapsed = [row["elapsed_s"] for row in rows]
    assert elapsed == sorted(elapsed)
    assert 0 <= elapsed[0] <= elapsed[-1] <= took
    assert 0 < rows[-1]["train_runtime"] <= took
    seconds = [value for row in rows for name, value in row.items() if name.startswith("seconds/")]
    assert seconds
    assert all(0 <= value <= took for value in seconds)
    # the newest is oldest by its time, and it is kept, and taken
    assert [checkpoint.step for checkpoint in found_in(tmp_path)] == [2, 3, 4]
    assert newest_whole(tmp_path) == tmp_path / "checkpoint-4"


@pytest.mark.usefixtures("jumping")
def test_a_deadline_is_no_matter_of_the_clock() -> None:
    spec = RewardSpec("r", lambda **columns: [0.5])
    assert [score([spec], [asked("st")], [ROUGH], deadline_s=30.0)[0].total for _ in range(4)] == [0.5] * 4


@pytest.mark.usefixtures("jumping")
def test_a_cache_under_a_clock_that_jumps_stays_below_its_size(tmp_path: Path) -> None:
    """Which files go first is anybody's guess then; what was put last is there, whole."""
    cache = BoundedFolder(tmp_path, 300, ".clip", "clip cache", "clip")
    for number in range(9):
        assert cache.put(f"{number:04d}", 100, lambda file: file.write(b"x" * 100)) is not None
        assert cache.path(f"{number:04d}").read_bytes() == b"x" * 100
    assert len(list(tmp_path.rglob("*.clip"))) == 3
