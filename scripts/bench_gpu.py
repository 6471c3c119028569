"""What avst's step costs on a GPU, on models of the published shapes with random weights. Downloads nothing.

    python scripts/bench_gpu.py                         Qwen2.5-VL-7B, -3B and Omni-7B's thinker; C = 256, 512, 1024
    python scripts/bench_gpu.py --models vl-3b --completions 256 --only decode attention
    python scripts/bench_gpu.py --cpu-smoke             tiny shapes on the CPU, in seconds: shows that it runs

Needs torch and transformers, and this repository's root; nothing else is imported. G = 6 answers to a prompt of about
3,800 tokens (a clip of 40 s), bfloat16, gradient checkpointing. A measurement that fails (memory, a kernel or package
that is not there) is a line with its reason, and the others go on. The JSON is written after every line.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
import transformers

from scripts.gpu import attention, decode, shapes, step
from scripts.gpu.clock import Clock, Fields, copy_bandwidth, peak_tflops

PARTS = ("step", "decode", "attention", "head")
ANSWERS = 6


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(shapes.MODELS), choices=[*shapes.MODELS, *_TINY])
    parser.add_argument("--completions", nargs="+", type=int, default=[256, 512, 1024], metavar="C")
    parser.add_argument("--visual-tokens", type=int, default=3600)
    parser.add_argument("--only", nargs="+", default=list(PARTS), choices=PARTS)
    parser.add_argument("--peak-tflops", type=float, help="dense bf16, for the utilisation; else by the GPU's name")
    parser.add_argument("--out", type=Path, default=Path("runs/bench_gpu.json"))
    parser.add_argument("--cpu-smoke", action="store_true")
    asked = parser.parse_args(arguments)
    if asked.cpu_smoke:
        asked.models, asked.completions, asked.visual_tokens = list(_TINY), [8], 40
    elif not torch.cuda.is_available():
        print("bench_gpu: no GPU is visible; --cpu-smoke runs tiny shapes on the CPU", file=sys.stderr)
        return 1
    report = _Report(asked.out, "cpu" if asked.cpu_smoke else "cuda")
    for name in asked.models:
        _bench(name, asked, report)
    return 0


_TINY = ("vl-tiny", "omni-tiny")


def _bench(name: str, asked: argparse.Namespace, report: _Report) -> None:
    cpu = asked.cpu_smoke
    device, dtype = ("cpu", torch.float32) if cpu else ("cuda", torch.bfloat16)
    clock = Clock(device, warmup=1, repeats=1) if cpu else Clock(device, warmup=1, repeats=3)
    bandwidth = copy_bandwidth(clock)
    report.add(name, None, "copy bandwidth", {"gb_per_second": bandwidth / 1e9})
    model = shapes.build(name, device, dtype)
    model.model.visual.requires_grad_(False)
    if (ears := getattr(model.model, "audio_tower", None)) is not None:
        ears.requires_grad_(False)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    prompt = shapes.prompt(model, asked.visual_tokens, 20 if cpu else 200, seconds=4 if cpu else 40)
    for tokens in asked.completions:
        if "step" in asked.only:
            steps = step.phases(model, prompt, ANSWERS, tokens, clock, peak_tflops(asked.peak_tflops))
            report.all(name, tokens, steps, clock)
        if "head" in asked.only:
            report.all(name, tokens, step.heads(model, ANSWERS * tokens, clock), clock)
        if "attention" in asked.only:
            size, config = len(prompt.input_ids), model.config.get_text_config()
            for label, run in attention.compare(config, size, ANSWERS, tokens, device, dtype, clock):
                report.one(name, tokens, label, run, clock)
    if "decode" in asked.only:
        tokens = 16 if cpu else 64
        for label, run in decode.decoding(model, prompt, ANSWERS, tokens, clock, bandwidth):
            report.one(name, tokens, label, run, clock)
    del model, prompt
    clock.free()


class _Report:
    """Lines on the screen and in the JSON, as they come."""

    def __init__(self, path: Path, device: str) -> None:
        self.path = path
        gpu = torch.cuda.get_device_name() if device == "cuda" else "none: a smoke test on the CPU"
        versions = {"torch": torch.__version__, "transformers": transformers.__version__}
        self.record: dict[str, Any] = {"gpu": gpu, "versions": versions | {"python": platform.python_version()}}
        self.record["lines"] = []

    def add(self, model: str, tokens: int | None, name: str, fields: Fields) -> None:
        self.record["lines"].append({"model": model, "completion_tokens": tokens, "name": name, **fields})
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(self.record, indent=2) + "\n")
        shown = "  ".join(
            f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in fields.items() if _brief(v)
        )
        print(f"{model:8}  C={tokens or '-':<5} {name:55} {shown}", flush=True)

    def one(self, model: str, tokens: int, name: str, run: Callable[[], Fields], clock: Clock) -> None:
        """Measure; a failure is a line with its reason."""
        try:
            fields = run()
        except Exception as error:  # whatever one way fails with, memory above all, the others are still measured
            fields = {"failed": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}
        self.add(model, tokens, name, fields)
        clock.free()

    def all(self, model: str, tokens: int, lines: Iterator[tuple[str, Fields]], clock: Clock) -> None:
        """Lines that are measured one after the other; the first failure ends them."""
        try:
            for name, fields in lines:
                self.add(model, tokens, name, fields)
        except Exception as error:  # the same: the next model has its turn
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            self.add(model, tokens, "the phases behind this one", {"failed": reason})
        clock.free()


def _brief(value: Any) -> bool:
    return value is not None and not isinstance(value, list)


if __name__ == "__main__":
    sys.exit(main())
