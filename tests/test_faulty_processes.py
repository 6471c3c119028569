"""A fault in one of two processes: both end, with the same line, and nothing of theirs runs on."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from avst.checkpoints import newest_whole
from avst.models.tiny import make_tiny
from avst.scenes.settings import make_settings
from avst.scenes.synthesise import synthesise
from tests.conftest import ROOT
from tests.tiny_world import SMALL

RECIPE = """
model: {{path: {folder}/model, dtype: float32}}
data: {{train: {train}, videos: {videos}}}
media: {{fps: 1.0, max_pixels: 3136, min_pixels: 784}}
rewards: {{sevenths: {{use: "{folder}/sevenths.py:sevenths", weight: 1.0}}}}
grpo:
  num_generations: 2
  per_device_train_batch_size: 2
  dataloader_num_workers: 1
  max_completion_length: 8
  max_steps: 3
  beta: 0.0
  bf16: false
  gradient_checkpointing: false
"""
REWARD = """
def sevenths(prompts, completions, completion_ids, **columns):
    return [sum(ids) % 7 / 6 for ids in completion_ids]
"""
ENDED = ["reward", "rollout", "forward", "bug", "sink", "data", "killed", "exit", "hangs", "SIGTERM"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faults")
    clips = synthesise(folder / "scenes", 4, 0, make_settings("quickstart", duration_s=(3.0, 3.0)))
    make_tiny("qwen2_5_omni", folder / "model", **SMALL)
    (folder / "sevenths.py").write_text(REWARD)
    text = RECIPE.format(folder=folder, train=clips.annotations["train"], videos=clips.videos)
    (folder / "faults.yaml").write_text(text)
    return folder


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


@pytest.fixture(scope="module")
def ends(world: Path) -> dict[str, Any]:
    """Case -> how both processes ended (tests/scripts/faulty_processes.py)."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.scripts.faulty_processes", str(world / "faults.yaml"), str(world)],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads((world / "results.json").read_text())
    return found


def last(screen: str) -> str:
    return screen.rstrip().splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize("case", ENDED)
def test_nobody_waits_and_nothing_is_left_running(ends: dict[str, Any], case: str) -> None:
    assert None not in ends[case]["statuses"], ends[case]["screens"]
    assert ends[case]["left over"] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "line"),
    [
        ("reward", r"avst: error: reward 'r' raised KeyError; q \(process 1 of 2\)"),
        ("rollout", r"avst: error: not enough memory for the rollout of 1 prompt.* frames: lower .*\(process 1 of 2\)"),
        ("forward", r"avst: error: not enough memory for the update on 1 prompt.* frames: lower .*\(process 0 of 2\)"),
        ("data", r"avst: error: clip7: cannot be decoded \(process 1 of 2\)"),
    ],
)
def test_a_mistake_is_the_same_line_on_both(ends: dict[str, Any], case: str, line: str) -> None:
    assert ends[case]["statuses"] == [1, 1]
    mine, other = map(last, ends[case]["screens"])
    assert mine == other
    assert re.fullmatch(line, mine)
    assert all("Traceback" not in screen for screen in ends[case]["screens"])


@pytest.mark.slow
@pytest.mark.parametrize(("case", "rank", "what"), [("bug", 1, "KeyError: 'no such thing'"), ("sink", 0, "ValueError")])
def test_a_bug_keeps_its_traceback_and_the_other_names_it(
    world: Path, ends: dict[str, Any], case: str, rank: int, what: str
) -> None:
    mine, other = last(ends[case]["screens"][rank]), last(ends[case]["screens"][1 - rank])
    assert ends[case]["statuses"][rank] == 70
    assert mine.startswith(f"avst: unexpected {what}")
    assert other.startswith(f"avst: error: {what}")
    assert f"(process {rank} of 2)" in other
    (kept,) = (world / case).glob("avst-train-*.log")
    assert what in kept.read_text()


@pytest.mark.slow
@pytest.mark.parametrize(("case", "statuses"), [("killed", [1, -9]), ("exit", [3, 1])])
def test_a_process_that_vanishes(ends: dict[str, Any], case: str, statuses: list[int]) -> None:
    assert ends[case]["statuses"] == statuses
    line = last(ends[case]["screens"][statuses.index(1)])
    assert line.startswith("avst: error: another process of this run has gone without a word")


@pytest.mark.slow
def test_a_process_that_hangs_is_given_up_after_ddp_timeout(ends: dict[str, Any]) -> None:
    """And ends by the launcher's SIGTERM, which asks for no checkpoint then."""
    assert ends["hangs"]["statuses"] == [1, 1]
    for screen in ends["hangs"]["screens"]:
        assert last(screen).startswith("avst: error: another process did not answer in time (ddp_timeout)")
    assert "then a checkpoint" not in ends["hangs"]["screens"][1]


@pytest.mark.slow
def test_a_signal_to_one_ends_both_at_the_same_step(world: Path, ends: dict[str, Any]) -> None:
    assert ends["SIGTERM"]["statuses"] == [143, 143]
    for screen in ends["SIGTERM"]["screens"]:
        assert last(screen).startswith("avst: stopped at step 2, checkpoint-2 is kept")
    assert newest_whole(world / "SIGTERM") == world / "SIGTERM" / "checkpoint-2"
