"""Decoders that hang, crash, are ended or eat memory under a run: one line, the sample skipped or the run ended, and no
process left over."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from avst import cli
from avst.media import close_workers
from tests.faults.conftest import figures

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
Faulty = Callable[[dict[str, str]], None]
LeftOver = Callable[[], list[str]]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_goes_on_without_the_clips_that_decoders_fail_on(
    workers: int,
    place: Path,
    names: list[str],
    faulty: Faulty,
    left_over: LeftOver,
    warned: Callable[[], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Four of five clips, one in each way; the fifth is learned from. Each is named once, and counted."""
    monkeypatch.setenv("AVST_DECODER_MEMORY_GB", "0.6")
    said = {
        "hang": "decoding took longer than 3 s and was stopped",
        "SIGSEGV": "the decoder crashed on this file (it was ended by SIGSEGV)",
        "SIGKILL": "the decoder crashed on this file (it was ended by SIGKILL)",
        "memory": "decoding takes more than the 0.6 GB of memory that a decoder may have",
    }
    faulty(dict(zip(names, said, strict=False)))
    options = ["media.on_error=skip", "media.deadline_s=3", f"grpo.dataloader_num_workers={workers}"]
    assert cli.main(["train", "faults.yaml", *options, "grpo.max_steps=5"]) == 0
    for name, words in zip(names, said.values(), strict=False):
        about = [line for line in warned() if f"{name}.mp4" in line]
        assert len(about) == 1, (name, about)
        assert words in about[0]
        assert f"skipped {name}/" in about[0]
    rows = figures(place / "run")
    assert sorted(row["samples/skipped"] for row in rows) == [0, 1, 1, 1, 1]
    assert len([row for row in rows if "reward" in row]) == 1
    close_workers()
    assert left_over() == []


@pytest.mark.parametrize("command", ["train", "eval"])
def test_a_run_that_may_skip_nothing_ends_in_one_line(
    command: str,
    place: Path,
    names: list[str],
    faulty: Faulty,
    left_over: LeftOver,
    capfd: pytest.CaptureFixture[str],
) -> None:
    faulty({name: "hang" for name in names})
    assert cli.main([command, "faults.yaml", "media.deadline_s=1"]) == 1
    errors = [line for line in capfd.readouterr().err.splitlines() if "error" in line]
    assert len(errors) == 1
    assert errors[0].startswith("avst: error: scene")
    assert errors[0].endswith(".mp4: decoding took longer than 1 s and was stopped (deadline_s in the recipe)")
    close_workers()
    assert left_over() == []


def test_a_loaders_worker_that_the_system_ends(
    place: Path, names: list[str], faulty: Faulty, left_over: LeftOver, capfd: pytest.CaptureFixture[str]
) -> None:
    """As for want of memory: one line that says so, and its decoders end with it."""
    faulty({name: "loader killed" for name in names})
    assert cli.main(["train", "faults.yaml", "grpo.dataloader_num_workers=2"]) == 1
    errors = [line for line in capfd.readouterr().err.splitlines() if line.startswith("avst: ")]
    assert len(errors) == 1
    assert "error: DataLoader worker (pid" in errors[0]
    assert "fewer loader workers (dataloader_num_workers)" in errors[0]
    close_workers()
    assert left_over() == []
