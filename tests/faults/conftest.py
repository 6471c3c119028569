"""Fixtures of the fault tests: a small world to train in, and a look at what processes are left."""

from __future__ import annotations

import gc
import json
import logging
import os
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from avst.media import close_workers, process
from avst.scenes.settings import make_settings
from avst.scenes.synthesise import synthesise

DECODER = Path(__file__).with_name("faulty_decoder.py")
RECIPE = """
name: faults
model: {{path: {model}, dtype: float32}}
data: {{train: scenes/annotations_train.json, eval: scenes/annotations_train.json, videos: scenes/videos}}
media: {{fps: 1.0, max_pixels: 3136, min_pixels: 784, deadline_s: 20.0}}
output_dir: run
rewards: {{sevenths: {{use: "./sevenths.py:sevenths", weight: 1.0}}}}
eval: {{max_new_tokens: 4, batch_size: 2}}
sft: {{max_steps: 1, per_device_train_batch_size: 1, bf16: false, use_cpu: true, logging_steps: 1}}
grpo:
  num_generations: 2
  per_device_train_batch_size: 2
  max_completion_length: 8
  learning_rate: 0.01
  max_steps: 1
  logging_steps: 1
  bf16: false
  use_cpu: true
  gradient_checkpointing: false
"""
# of the token ids alone: a model that knows nothing has groups with spread
REWARD = """
def sevenths(prompts, completions, completion_ids, **columns):
    return [sum(ids) % 7 / 6 for ids in completion_ids]
"""


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five clips of two seconds with one question each."""
    folder = tmp_path_factory.mktemp("faults") / "scenes"
    synthesise(folder, 6, 0, make_settings("quickstart", duration_s=(2.0, 2.0)), n_eval=1)
    file = folder / "annotations_train.json"
    entries = json.loads(file.read_text())
    for entry in entries:
        event = entry["annotation"][0]
        task = next(name for name, asked in event.items() if isinstance(asked, list) and asked)
        entry["annotation"] = [{key: value for key, value in event.items() if not isinstance(value, list)}]
        entry["annotation"][0][task] = event[task][:1]
    file.write_text(json.dumps(entries))
    return folder


@pytest.fixture
def place(
    scenes: Path, tiny_folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """The working directory of a run: scenes/ (a copy) and faults.yaml."""
    import shutil

    shutil.copytree(scenes, tmp_path / "scenes")
    (tmp_path / "sevenths.py").write_text(REWARD)
    (tmp_path / "faults.yaml").write_text(RECIPE.format(model=tiny_folders["qwen2_5_omni"]))
    monkeypatch.chdir(tmp_path)
    close_workers()
    yield tmp_path
    close_workers()


@pytest.fixture
def names(place: Path) -> list[str]:
    """The clips' names, in the file's order."""
    return [entry["video_name"] for entry in json.loads((place / "scenes" / "annotations_train.json").read_text())]


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """faulty({"clip": "hang"}): decoders of this process and its children do that with that clip."""

    def use(faults: dict[str, str]) -> None:
        close_workers()
        monkeypatch.setenv("AVST_TEST_SPARE", str(os.getpid()))
        monkeypatch.setattr(process, "COMMAND", (sys.executable, "-P", str(DECODER), json.dumps(faults)))

    return use


@pytest.fixture
def left_over(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """left_over(): command lines of the processes that were begun in this test, by whomever, and live on; waits for
    those that are ending."""
    mark = f"AVST_TEST_MARK={uuid.uuid4().hex}"
    monkeypatch.setenv(*mark.split("="))

    def alive() -> list[str]:
        found = []
        for folder in Path("/proc").iterdir():
            if not folder.name.isdigit() or int(folder.name) == os.getpid():
                continue
            try:
                if mark.encode() in (folder / "environ").read_bytes():
                    found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:
                continue
        return found

    def look() -> list[str]:
        gc.collect()  # a loader's workers live on as long as the trainer of this process does
        until = time.monotonic() + 20
        while (found := alive()) and time.monotonic() < until:
            time.sleep(0.1)
        return found

    return look


@pytest.fixture
def warned(tmp_path: Path) -> Iterator[Callable[[], list[str]]]:
    """warned(): avst's log lines so far, of this process and of the loader's workers."""
    file = tmp_path / "warned.log"
    handler = logging.FileHandler(file)
    logger = logging.getLogger("avst")
    logger.addHandler(handler)
    yield lambda: file.read_text().splitlines()
    logger.removeHandler(handler)
    handler.close()


def figures(run: Path) -> list[dict[str, Any]]:
    """The log lines of training steps."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if "loss" in row]
