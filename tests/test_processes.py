"""A launcher's mistakes are errors: a run on fewer processes than were asked for is never begun."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from avst import runs
from avst.errors import AvstError
from avst.processes import refuse_lost_processes
from tests.conftest import ROOT

HERE = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
ACCELERATED = {"ACCELERATE_MIXED_PRECISION": "no"}
TORCHRUN = {**HERE, "WORLD_SIZE": "4", "LOCAL_RANK": "0"}


@pytest.mark.parametrize(
    ("found", "environment", "said"),
    [
        (1, {**ACCELERATED, **HERE}, "asked for several processes and started one"),
        (1, TORCHRUN, "started 4 processes"),
        (2, TORCHRUN, "knows of 2"),
        (1, {"SLURM_STEP_NUM_TASKS": "8"}, "srun started 8"),
        (1, {"OMPI_COMM_WORLD_SIZE": "2"}, "mpirun started 2"),
    ],
)
def test_lost_processes(found: int, environment: dict[str, str], said: str) -> None:
    with pytest.raises(AvstError, match=said):
        refuse_lost_processes(found, environment)


@pytest.mark.parametrize(
    ("found", "environment"),
    [
        (1, {}),
        (1, ACCELERATED),
        (1, HERE),  # a batch script's own
        (4, TORCHRUN),
        (4, {**TORCHRUN, **ACCELERATED}),
        (1, {"SLURM_NTASKS": "8", "SLURM_STEP_NUM_TASKS": "1"}),
    ],
)
def test_as_asked(found: int, environment: dict[str, str]) -> None:
    refuse_lost_processes(found, environment)


def test_srun_with_a_torchrun_on_each_host_is_right() -> None:
    """Two tasks of srun, four processes each."""
    refuse_lost_processes(8, {**HERE, "WORLD_SIZE": "8", "LOCAL_RANK": "3", "SLURM_STEP_NUM_TASKS": "2"})


def test_accelerate_launch_on_cpu(tiny_folders: dict[str, Path], tmp_path: Path) -> None:
    """The real launcher, asked for two."""
    recipe = tmp_path / "two.yaml"
    recipe.write_text(
        f"model: {{path: {tiny_folders['qwen2_5_vl']}}}\ndata: {{train: [none.json], videos: .}}\n"
        "grpo: {per_device_train_batch_size: 2, num_generations: 2}\n"
    )
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2"]
    done = subprocess.run(
        [*launch, "-m", "avst", "train", str(recipe), "--output-dir", str(tmp_path / "run")],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode != 0
    assert "accelerate launch was asked for several processes and started one" in done.stderr
    assert not list(tmp_path.glob("run/*"))


def test_a_host_that_does_not_see_the_folder_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "SEEN_WITHIN", 0.2)
    with pytest.raises(AvstError, match="must be a folder that all hosts share"):
        runs._seen_by_all(str(tmp_path))
    (tmp_path / "run.json").write_text("{}")
    assert runs._seen_by_all(str(tmp_path)).path == tmp_path
