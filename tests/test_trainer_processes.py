"""Two processes (torchrun, gloo) take the step that one process takes over the same questions."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import ROOT
from tests.scripts.grpo_processes import CASES, run_case, run_sft
from tests.tiny_world import load_grouped


@pytest.fixture(scope="module")
def two_processes(tiny_folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """Case -> what each rank was left with."""
    out = tmp_path_factory.mktemp("two")
    checkpoints = tiny_folders["qwen2_5_vl"].parent
    script = ROOT / "tests" / "scripts" / "grpo_processes.py"
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*launch, str(script), str(checkpoints), str(out)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    files = {name: f"case{number}" for number, name in enumerate(CASES)} | {"sft": "sft"}
    return {
        name: [torch.load(out / f"{file}-rank{rank}.pt", weights_only=False) for rank in range(2)]
        for name, file in files.items()
    }


@pytest.mark.parametrize("case", CASES)
def test_two_processes_take_the_step_of_one(
    tiny_folders: dict[str, Path], two_processes: dict[str, list[Any]], tmp_path: Path, case: str
) -> None:
    """Weights after the first and the last step, and what was logged; one process takes the same micro-batches one
    after the other."""
    wanted = run_case(case, tiny_folders["qwen2_5_vl"].parent, tmp_path, accumulation=2)
    ours, other = two_processes[case]
    for when in ("first", "last"):
        for name, value in wanted[when].items():
            torch.testing.assert_close(ours[when][name], value, rtol=1e-9, atol=1e-10, msg=f"{when}: {name}")
            assert torch.equal(ours[when][name], other[when][name]), f"{when}: the ranks differ in {name}"
    moved = [(wanted["last"][name] - value).abs().max() for name, value in wanted["first"].items()]
    assert max(moved) > 1e-6
    for mine, theirs in zip(ours["logs"], wanted["logs"], strict=True):
        for name in mine.keys() | theirs.keys():
            if not any(word in name for word in ("second", "runtime", "flos")):
                assert mine[name] == pytest.approx(theirs[name], rel=1e-5, abs=1e-7), name


def test_flat_groups_change_nothing(two_processes: dict[str, list[Any]]) -> None:
    """One rank's group is left out, then both ranks': the weights are those of a run that computes them, by
    momentum and decay too."""
    fast, plain = two_processes["flat groups, AdamW"][0], two_processes["flat groups, AdamW, all computed"][0]
    for when in ("first", "last"):
        for name, value in plain[when].items():
            torch.testing.assert_close(fast[when][name], value, rtol=1e-10, atol=1e-12, msg=f"{when}: {name}")
    skipped = [[line["flat_groups/skipped"] for line in run["logs"][:-1]] for run in (fast, plain)]
    assert skipped == [[0.5, 1.0, 0.5], [0.0, 0.0, 0.0]]
    assert [line["grad_norm"] > 0 for line in fast["logs"][:-1]] == [True, False, True]


def test_one_rank_alone_asks_another_question(two_processes: dict[str, list[Any]]) -> None:
    """In the first step rank 0's group is flat and rank 1's is not; the second step has nothing to replace."""
    logs = two_processes["one rank asks another question"][0]["logs"]
    assert [line.get("resample/filled", 0) for line in logs[:-1]] == [1, 0]
    assert [line["frac_reward_zero_std"] for line in logs[:-1]] == [0.0, 0.0]


def test_a_nan_on_one_rank_leaves_the_step_out_on_both(
    tiny_folders: dict[str, Path], two_processes: dict[str, list[Any]]
) -> None:
    """The weights are those that were there before, on both ranks; the rank that had it keeps its batch."""
    for result in two_processes["one rank's loss is NaN"]:
        before = dict(load_grouped(tiny_folders["qwen2_5_vl"]).named_parameters())
        assert all(torch.equal(value, before[name]) for name, value in result["first"].items())
        assert [line.get("steps/skipped", 0.0) for line in result["logs"]] == [1.0, 0.0, 0.0, 0.0]
        assert "grad_norm" not in result["logs"][0]
        assert result["kept"] == ["step-00001-rank1"]


def test_supervised_steps_too(
    tiny_folders: dict[str, Path], two_processes: dict[str, list[Any]], tmp_path: Path
) -> None:
    wanted = run_sft(tiny_folders["qwen2_5_vl"].parent, tmp_path, accumulation=2)
    ours, other = two_processes["sft"]
    for name, value in wanted.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-9, atol=1e-10, msg=name)
        assert torch.equal(ours[name], other[name]), f"the ranks differ in {name}"
