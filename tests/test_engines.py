"""DDP, ZeRO-2, ZeRO-3, ZeRO-3 with offload and FSDP2 on two processes take the steps of one process.

Real DeepSpeed and accelerate's own FSDP2, on CPU with gloo, in float32. `make setup` puts DeepSpeed beside the
environment, for importing it costs every other test seconds.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import ROOT
from tests.scripts.engines import CASES, STEPS, run_case, run_sft
from tests.tiny_world import load_plain

DEEPSPEED = Path(sys.prefix) / "engines"
ENGINES = {
    "ddp": "DistributedDataParallel",
    "zero2": "DeepSpeedEngine",
    "zero3": "DeepSpeedEngine",
    "zero3-offload": "DeepSpeedEngine",
    "fsdp2": "FSDP",
}
SAVED = list(CASES).index("vl, saved")
pytestmark = pytest.mark.slow
needs_deepspeed = pytest.mark.skipif(not DEEPSPEED.is_dir(), reason="DeepSpeed is not there: make setup")
every_engine = pytest.mark.parametrize(
    "engine", [pytest.param(name, marks=needs_deepspeed if name.startswith("zero") else ()) for name in ENGINES]
)


@pytest.fixture(scope="module")
def out(tiny_folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which all engines have left what they came to."""
    folder = tmp_path_factory.mktemp("engines")
    launches = ["ddp,fsdp2", *(["zero2,zero3,zero3-offload"] if DEEPSPEED.is_dir() else [])]
    for engines in launches:
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "torch.distributed.run",
                "--standalone",
                "--nproc_per_node",
                "2",
                str(ROOT / "tests/scripts/engines.py"),
                engines,
                str(tiny_folders["qwen2_5_vl"].parent),
                str(folder),
            ],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{ROOT}:{DEEPSPEED}", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
            capture_output=True,
            text=True,
            timeout=500,
        )
        assert done.returncode == 0, done.stderr[-4000:]
    return folder


@pytest.fixture(scope="module")
def alone(tiny_folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What one process comes to, with the micro-batches of both one after the other."""
    folder, checkpoints = tmp_path_factory.mktemp("alone"), tiny_folders["qwen2_5_vl"].parent
    return {name: run_case(name, checkpoints, folder / str(i), 2, use_cpu=True) for i, name in enumerate(CASES)}


def of_ranks(out: Path, engine: str, case: str) -> list[list[dict[str, Any]]]:
    """For each rank the uninterrupted run and, where there is one, the resumed run."""
    number = list(CASES).index(case)
    return [torch.load(out / f"{engine}{number}-rank{rank}.pt", weights_only=False) for rank in range(2)]


@every_engine
@pytest.mark.parametrize("case", CASES)
def test_an_engine_takes_the_steps_of_one_process(
    out: Path, alone: dict[str, dict[str, Any]], engine: str, case: str
) -> None:
    """Losses, KL and gradient norms of three steps, the weights after them, and what the policy would have drawn."""
    wanted, (ours, other) = alone[case], (runs[0] for runs in of_ranks(out, engine, case))
    assert ours["engine"].startswith(ENGINES[engine])
    lines = [[line for line in run["logs"] if "kl" in line] for run in (ours, wanted)]
    assert len(lines[0]) == STEPS
    for mine, theirs in zip(*lines, strict=True):
        for name in ("loss", "kl", "grad_norm", "entropy", "ratio/mean", "completions/mean_length", "samples/skipped"):
            assert mine[name] == pytest.approx(theirs[name], rel=2e-6, abs=2e-7), name
    assert lines[0][-1]["kl"] > 1e-6  # the policy has moved, and the reference has not
    for name, value in wanted["weights"].items():
        torch.testing.assert_close(ours["weights"][name], value, rtol=1e-6, atol=1e-6, msg=name)
        assert torch.equal(ours["weights"][name], other["weights"][name]), f"the ranks differ in {name}"
    assert len(wanted["drawn"]) > STEPS
    drawn = sorted([*ours["drawn"], *other["drawn"]], key=lambda one: one[:2])
    for mine, theirs in zip(drawn, sorted(wanted["drawn"], key=lambda one: one[:2]), strict=True):
        assert mine[:3] == theirs[:3]
        torch.testing.assert_close(torch.tensor(mine[3]), torch.tensor(theirs[3]), rtol=1e-5, atol=1e-5)


@every_engine
def test_supervised_steps_too(out: Path, tiny_folders: dict[str, Path], tmp_path: Path, engine: str) -> None:
    wanted = run_sft(tiny_folders["qwen2_5_vl"].parent, tmp_path, 2, use_cpu=True)
    ours, other = (torch.load(out / f"{engine}-sft-rank{rank}.pt", weights_only=False) for rank in range(2))
    assert ours["engine"].startswith(ENGINES[engine])
    for mine, theirs in zip(ours["logs"][:2], wanted["logs"], strict=False):
        assert [mine[n] for n in ("loss", "grad_norm")] == pytest.approx(
            [theirs[n] for n in ("loss", "grad_norm")], rel=2e-6
        )
    for name, value in wanted["weights"].items():
        torch.testing.assert_close(ours["weights"][name], value, rtol=1e-6, atol=1e-6, msg=name)
        assert torch.equal(ours["weights"][name], other["weights"][name]), f"the ranks differ in {name}"


@every_engine
def test_a_resumed_run_ends_the_same(out: Path, engine: str) -> None:
    """From checkpoint-2 to step 3, bit for bit."""
    for whole, resumed in of_ranks(out, engine, "vl, saved"):
        assert len(resumed["drawn"]) == 1
        assert resumed["logs"][-2]["loss"] == whole["logs"][-2]["loss"]
        for name, value in whole["weights"].items():
            assert torch.equal(resumed["weights"][name], value), name


@every_engine
def test_a_checkpoint_holds_the_whole_weights(out: Path, engine: str) -> None:
    """In transformers' own format, whatever share a process has."""
    [[last, _], _] = of_ranks(out, engine, "vl, saved")
    folder = out / f"{engine}{SAVED}" / "checkpoint-3"
    saved = dict(type(load_plain(folder)).from_pretrained(folder, dtype=torch.float32).named_parameters())
    assert saved.keys() == last["weights"].keys()
    for name, value in last["weights"].items():
        assert torch.equal(saved[name], value), name


def test_one_process_goes_on_where_two_stopped(
    out: Path, alone: dict[str, dict[str, Any]], tiny_folders: dict[str, Path], tmp_path: Path
) -> None:
    """DDP's checkpoint holds what any number of processes needs, but for each one's random state."""
    checkpoint = out / f"ddp{SAVED}" / "checkpoint-2"
    folder = tiny_folders["qwen2_5_vl"].parent
    resumed = run_case("vl, saved", folder, tmp_path, 2, use_cpu=True, resume=str(checkpoint))
    assert len(resumed["drawn"]) == 2
    for name, value in alone["vl, saved"]["weights"].items():
        torch.testing.assert_close(resumed["weights"][name], value, rtol=1e-6, atol=1e-6, msg=name)


@every_engine
def test_a_loss_that_is_not_finite_on_one_rank_moves_no_weight(out: Path, engine: str) -> None:
    """The step is left out on both; DeepSpeed's update cannot be, so both end before it, with the same line."""
    ranks = [torch.load(out / f"{engine}-spoiled-rank{rank}.pt", weights_only=False) for rank in range(2)]
    for result in ranks:
        first, second = result["weights"]
        assert all(torch.equal(second[name], value) for name, value in first.items())
        assert result["kept"] == ["step-00002-rank1"]
        assert result["said"] == ranks[0]["said"]
        assert result["said"].startswith(
            "step 2: the loss is not finite; under DeepSpeed" if engine[:4] == "zero" else ""
        )
        assert bool(result["said"]) == (engine[:4] == "zero")
