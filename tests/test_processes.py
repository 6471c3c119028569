"""A launcher's mistakes are errors: a run on fewer processes than were asked for is never begun."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from accelerate.commands.launch import launch_command_parser

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


@pytest.mark.parametrize("resumed", [False, True])
def test_the_slurm_script(tmp_path: Path, resumed: bool) -> None:
    """Two hosts: what each would launch, by the real script with stand-ins for SLURM's commands and for accelerate."""
    stand_ins = {
        "scontrol": "printf 'node7\\nnode8\\n'",
        "srun": 'for SLURM_NODEID in 0 1; do export SLURM_NODEID; "$@"; done',
        "accelerate": 'printf "%s\\n" "$*" >> launched',
    }
    for name, body in stand_ins.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    if resumed:
        (tmp_path / "runs" / "mine" / "checkpoint-3").mkdir(parents=True)
    here = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_NODELIST": "node[7-8]"}
    subprocess.run(
        ["bash", str(ROOT / "recipes" / "slurm.sh"), "my/mine.yaml"],
        cwd=tmp_path,
        env={**os.environ, **here, "SLURM_NNODES": "2", "SLURM_GPUS_ON_NODE": "4"},
        check=True,
    )
    for rank, line in enumerate((tmp_path / "launched").read_text().splitlines()):
        said = launch_command_parser().parse_args(line.split()[1:])
        assert (said.num_machines, said.num_processes, said.machine_rank) == (2, 8, rank)
        assert said.main_process_ip == "node7"
        assert (ROOT / said.config_file).is_file()
        assert said.training_script_args == ["train", "my/mine.yaml", *(["--resume"] if resumed else [])]


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
