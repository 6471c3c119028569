"""The GPU benchmark: it runs, on tiny shapes and the CPU, with torch and transformers alone; its formulas by hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from scripts.gpu import attention, decode, shapes, step
from tests.conftest import ROOT

# what a bare GPU machine may lack
BLOCKED = ("trl", "peft", "av", "gensim", "soxr", "rich", "datasets", "qwen_vl_utils", "matplotlib", "pyarrow")


def test_the_smoke_mode(tmp_path: Path) -> None:
    """All parts of both families; only what needs CUDA, or a package, fails, and says so."""
    block = "import sys\n" + "".join(f"sys.modules[{name!r}] = None\n" for name in BLOCKED)
    program = f"{block}import runpy\nsys.argv = ['bench_gpu', '--cpu-smoke', '--out', {str(tmp_path / 'g.json')!r}]\n"
    program += f"runpy.run_path({str(ROOT / 'scripts' / 'bench_gpu.py')!r}, run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    lines = json.loads((tmp_path / "g.json").read_text())["lines"]
    failed = {line["name"]: line["failed"] for line in lines if "failed" in line}
    assert all("needs CUDA" in why or "flash_attn" in why or "too few tokens" in why for why in failed.values()), failed
    for model in ("vl-tiny", "omni-tiny"):
        names = {line["name"] for line in lines if line["model"] == model and "failed" not in line}
        assert {"repeated / packed", "head, pieces", "tower features, once a clip"} <= names
        assert any(name.startswith("attention") for name in names)
    (ideal,) = {line["ideal"] for line in lines if line["name"] == "repeated / packed" and line["model"] == "vl-tiny"}
    prompt = 4 * 3 * 3 + 20  # 4 grids of 3 x 3 tokens and the text
    assert ideal == pytest.approx(6 * (prompt + 8) / (prompt + 6 * 8))


def test_without_a_gpu_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    from scripts import bench_gpu

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert bench_gpu.main(["--out", str(tmp_path / "g.json")]) == 1
    assert "no GPU is visible" in capsys.readouterr().err


def test_flops_by_hand() -> None:
    """Hidden 64 with 4 heads of 16, 2 of keys; 2 layers; 128 inside; 512 words. 3 tokens, two answers of 2."""
    model = shapes.build("vl-tiny", "cpu", torch.float32)
    weights = 2 * (64 * 64 * 2 + 64 * 32 * 2 + 3 * 64 * 128)
    assert shapes.linear_parameters(model) == weights
    pairs = (1 + 2 + 3) + 2 * ((3 + 1) + (3 + 2))
    forward = 2 * weights * 7 + 4 * 64 * 2 * pairs + 2 * 64 * 512 * 4
    assert step.training_flops(model, 3, 2, 2) == 3 * forward


def test_memory_bound_by_hand() -> None:
    model = shapes.build("vl-tiny", "cpu", torch.float32)
    layers = sum(p.numel() for p in model.model.language_model.layers.parameters())
    states = 2 * 2 * 2 * 16 * (10 + 6 * 4 / 2)  # keys and values, layers, heads of keys, their size; tokens
    assert decode.bound_seconds(model, 10, 6, 4, 1e9) == pytest.approx(4 * (layers + 64 * 512 + states) / 1e9)


@pytest.mark.parametrize("name", ["as it is (SDPA, causal from the end)", "SDPA with a dense mask and grouped heads"])
def test_attention_ways_agree_in_float64(name: str) -> None:
    """Values and gradients, against the mask over the whole row."""
    generator = torch.Generator().manual_seed(0)
    states = [torch.randn(1, n, 5 + 3 * 4, 8, dtype=torch.float64, generator=generator) for n in (4, 2, 2)]
    ours = [state.clone().requires_grad_() for state in states]
    plain = [state.clone().requires_grad_() for state in states]
    out = attention.ways(5, 3, 4, "cpu")[name]()(*ours)
    wanted = attention.dense(5, 3, 4, *plain)  # float32
    torch.testing.assert_close(out, wanted.double(), rtol=1e-5, atol=1e-5)
    weights = torch.randn(out.shape, dtype=torch.float64, generator=generator)
    (out * weights).sum().backward()
    (wanted * weights).sum().backward()
    for one, other in zip(ours, plain, strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-5)
