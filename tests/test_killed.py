"""Runs that are killed, and go on: by SIGKILL wherever it hits, by SIGTERM and Ctrl-C with a checkpoint."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from avst.checkpoints import newest_whole
from avst.durable import file_digest
from avst.models.tiny import make_tiny
from avst.run_folder import RunFolder
from avst.scenes.settings import make_settings
from avst.scenes.synthesise import synthesise
from tests.scripts.faulty_processes import left_over
from tests.tiny_world import SMALL

ROOT = Path(__file__).parents[1]
STEPS = 12
RECIPE = """
model: {{path: {model}, dtype: float32}}
data: {{train: {train}, videos: {videos}}}
media: {{fps: 1.0, max_pixels: 3136, min_pixels: 784}}
output_dir: {out}
rewards: {{sevenths: {{use: "{reward}:sevenths", weight: 1.0}}}}
grpo:
  num_generations: 2
  per_device_train_batch_size: 2
  gradient_accumulation_steps: 2
  num_iterations: 2
  max_completion_length: 24
  max_steps: {steps}
  save_strategy: steps
  save_steps: 1
  save_total_limit: 2
  logging_steps: 4
  learning_rate: 0.01
  beta: 0.04
  bf16: false
  gradient_checkpointing: false
"""


# of the token ids alone: a model that knows nothing has groups with spread
REWARD = """
def sevenths(prompts, completions, completion_ids, **columns):
    return [sum(ids) % 7 / 6 for ids in completion_ids]
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("killed")
    clips = synthesise(folder / "scenes", 4, 0, make_settings("quickstart", duration_s=(3.0, 3.0)))
    make_tiny("qwen2_5_omni", folder / "model", **SMALL)
    (folder / "sevenths.py").write_text(REWARD)
    for name in ("whole", "killed", "SIGTERM", "SIGINT"):
        text = RECIPE.format(
            model=folder / "model",
            train=clips.annotations["train"],
            videos=clips.videos,
            out=folder / name,
            reward=folder / "sevenths.py",
            steps=STEPS,
        )
        (folder / f"{name}.yaml").write_text(text)
    return folder


def start(*words: str, processes: int = 1) -> subprocess.Popen[str]:
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    return subprocess.Popen(
        [sys.executable, *(launch if processes > 1 else []), "-m", "tests.scripts.killed_run", *words],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        start_new_session=True,  # a group of its own, to be killed whole
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def heard(child: subprocess.Popen[str], words: str) -> bool:
    """Waits for a line that begins so; False where the process ends before."""
    assert child.stdout is not None
    return any(line.startswith(words) for line in child.stdout)


def wait_for(child: subprocess.Popen[str], words: str) -> None:
    if heard(child, words):
        return
    pytest.fail(f"ended before {words!r}: {child.communicate()[1][-2000:]}")


def lines(run: Path) -> list[dict[str, Any]]:
    """The log without what a clock says."""
    timed = ("seconds", "runtime", "per_second", "elapsed_s", "time_s", "start")
    return [
        {key: value for key, value in row.items() if not any(word in key for word in timed)}
        for row in RunFolder(run).metrics()
    ]


@pytest.fixture(scope="module", params=[1, 2], ids=["one process", "two processes"])
def processes(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(scope="module")
def whole(world: Path, processes: int) -> Path:
    for name in ("whole", "killed", "SIGTERM", "SIGINT"):
        shutil.rmtree(world / name, ignore_errors=True)
    child = start("train", str(world / "whole.yaml"), processes=processes)
    out, errors = child.communicate()
    assert child.returncode == 0, errors[-2000:]
    assert out.count("step ") >= STEPS
    assert all(row["grad_norm"] > 0 for row in lines(world / "whole") if "grad_norm" in row)
    return world / "whole"


def same_end(run: Path, whole: Path) -> None:
    random_states = [path.name for path in (whole / f"checkpoint-{STEPS}").glob("rng_state*.pth")]
    assert random_states
    last = [f"checkpoint-{STEPS}/{name}" for name in ("optimizer.pt", "scheduler.pt", *random_states)]
    for name in ("final/model.safetensors", *last):
        assert file_digest(run / name) == file_digest(whole / name), name
    assert lines(run) == lines(whole)
    completions = [
        [(row["step"], row["completion"], row["advantage"]) for row in RunFolder(folder).completions()]
        for folder in (run, whole)
    ]
    assert completions[0] == completions[1]


@pytest.mark.slow
def test_killed_wherever_it_hits(world: Path, whole: Path, processes: int) -> None:
    """A random time after some steps of the loop have begun: in a rollout, an update, a checkpoint or a log line."""
    draw, folder = random.Random(0), world / "killed"
    words = ["train", str(world / "killed.yaml")]
    kills = 0
    while kills < 5:
        child = start(*words, processes=processes)
        if not heard(child, "step "):
            assert child.wait() == 0
            break  # the last kill came when all steps were done
        for _ in range(processes * draw.randint(0, 1)):  # each process says it
            heard(child, "step ")
        time.sleep(draw.uniform(0, 0.4))
        os.killpg(child.pid, signal.SIGKILL)
        if child.wait() == 0:
            break  # it was faster
        kills += 1
        words = ["resume", str(folder)]
    assert kills >= 2
    assert newest_whole(folder) is not None
    child = start(*words, processes=processes)
    _, errors = child.communicate()
    assert child.returncode == 0, errors[-2000:]
    same_end(folder, whole)
    assert len(json.loads((folder / "run.json").read_text())["starts"]) >= kills


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_asked_to_end_it_keeps_a_checkpoint_and_says_so(world: Path, whole: Path, processes: int, name: str) -> None:
    if processes > 1:
        pytest.skip("torchrun passes signals on in its own way: tested with one process")
    number, folder = signal.Signals[name], world / name
    child = start("train", str(world / f"{name}.yaml"))
    wait_for(child, "step 2")
    child.send_signal(number)
    _, errors = child.communicate()
    assert child.returncode == 128 + number
    assert left_over([child.pid]) == []  # it was started in a session of its own
    said = re.search(rf"avst: stopped at step (\d+), checkpoint-\1 is kept: avst resume {folder}\n", errors)
    assert said is not None, errors[-2000:]
    assert 4 <= int(said[1]) < STEPS
    assert int(said[1]) % 2 == 0  # inside num_iterations it goes on to the end of the window
    assert "Traceback" not in errors
    assert newest_whole(folder) == folder / f"checkpoint-{said[1]}"
    assert not (folder / "final").exists()
    child = start("resume", str(folder))
    _, errors = child.communicate()
    assert child.returncode == 0, errors[-2000:]
    same_end(folder, whole)
