"""A whole GRPO step of avst side by side with TRL's own GRPOTrainer, each in a process of its own, by turns.

Qwen2.5-VL's shape with hidden 256, 6 layers, a vision tower of 4 blocks, float32, one thread each: 8 images of
336 x 336 are 1,152 visual tokens (TRL takes images, so both are given images), G = 6 answers of exactly C = 64 tokens,
beta 0.04 so that the reference runs too, AdamW. One prompt a step, two prompts a step, and one prompt with the vision
tower frozen.

That both compute the same is checked in the run: P and the number of answer tokens in every round, and that the packed
forward gives TRL's first answers the log-probs that TRL gave them. That losses and gradients agree is
tests/test_trainer_trl.py. All answers have exactly C tokens: TRL's `generate` gets min_new_tokens = C, which forbids
the end tokens until then; avst's rollout is told of no end token but one outside of the vocabulary.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from scripts.bench.arm import Arm
from scripts.bench.figure import Figure
from scripts.bench.step_arms import make_checkpoint

MODEL = {"hidden": 256, "layers": 6, "heads": 8, "kv_heads": 2, "vision_hidden": 256, "vision_depth": 4}
SMALL_MODEL = {"hidden": 64, "layers": 2, "heads": 4, "kv_heads": 2, "vision_hidden": 32, "vision_depth": 2}
SHAPE = {"images": 8, "side": 336, "answers": 6, "answer_tokens": 64, "beta": 0.04}
SMALL_SHAPE = {"images": 1, "side": 56, "answers": 3, "answer_tokens": 8, "beta": 0.04}
THREADS = 1
LOGPS_APART = 1e-4  # nats: rounding is 1e-6, a prompt's images at text positions 0.02, another prompt's images 0.13
CASES = (
    ("1 prompt", {"prompts": 1, "frozen": False}, ">= 4.5"),
    ("2 prompts", {"prompts": 2, "frozen": False}, ">= 4.5"),
    ("1 prompt, vision frozen", {"prompts": 1, "frozen": True}, ">= 6"),
)


def run(quick: bool) -> list[Figure]:
    """Time, memory and phases, case by case."""
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as folder:
        make_checkpoint(Path(folder) / "model", **(SMALL_MODEL if quick else MODEL))
        for label, case, target in CASES[:1] if quick else CASES:
            shape: dict[str, Any] = {"folder": f"{folder}/model", "out": f"{folder}/out"}
            shape |= (SMALL_SHAPE if quick else SHAPE) | case
            figures += _compare(label, shape, target, rounds=1 if quick else 3)
    return figures


def _compare(label: str, shape: dict[str, Any], target: str, rounds: int) -> list[Figure]:
    phases: list[dict[str, float]] = []
    with (
        Arm("scripts.bench.step_arms:trl_arm", threads=THREADS, **shape) as trl,
        Arm("scripts.bench.step_arms:avst_arm", threads=THREADS, **shape) as ours,
    ):
        for _ in range(rounds + 1):  # the first is the warm-up, and avst's checks the paths
            theirs, mine = trl.run(), ours.run()
            check(theirs, mine, shape)
            phases.append(mine["phases"])
    seconds = {"trl": trl.seconds[1:], "avst": ours.seconds[1:]}
    peak = {"trl": trl.peak_bytes, "avst": ours.peak_bytes}
    resident = {"trl": trl.last["resident_bytes"], "avst": ours.last["resident_bytes"]}
    how = {
        "shape": {k: v for k, v in shape.items() if k not in ("folder", "out")},
        "prompt_tokens": ours.last["prompt_tokens"],
        "seconds": seconds,
        "peak_bytes": peak,
        "resident_bytes_before": resident,
        "peak_beyond_resident_bytes": {name: peak[name] - resident[name] for name in peak},
        "logps_apart": ours.last["logps_apart"],
        "threads": THREADS,
        "phases": phases[1:],
    }
    # frozen towers: what is left to save is small beside what a process holds before its first step (resident_bytes)
    within = "" if shape["frozen"] else "<= 0.35"
    faster = median(t / o for t, o in zip(seconds["trl"], seconds["avst"], strict=True))
    figures = [
        Figure("step", f"{label}: TRL", median(seconds["trl"]), "s", "", how),
        Figure("step", f"{label}: avst", median(seconds["avst"]), "s", "", how),
        Figure("step", f"{label}: time, TRL / avst", faster, "x", target, how),
        Figure("step", f"{label}: memory, avst / TRL", peak["avst"] / peak["trl"], "x", within, how),
    ]
    for name in ("data", "rollout", "rewards", "reference", "forward", "backward"):
        figures.append(Figure("step", f"{label}: avst, {name}", median(p.get(name, 0.0) for p in phases[1:]), "s"))
    return figures


def check(theirs: dict[str, Any], mine: dict[str, Any], shape: dict[str, Any]) -> None:
    """Both computed the same prompt, as many answer tokens and the same log-probs. AssertionError: what differs."""
    if theirs["prompt_tokens"] != mine["prompt_tokens"]:
        raise AssertionError(f"prompts differ: {theirs['prompt_tokens']} and {mine['prompt_tokens']} tokens")
    due = shape["prompts"] * shape["answers"] * shape["answer_tokens"]
    # TRL scores all answers of a step in one call, so each of its counts is of the whole step
    if mine["answer_tokens"] != due or theirs["answer_tokens"] != due:
        raise AssertionError(f"{due} answer tokens were due: {theirs['answer_tokens']} and {mine['answer_tokens']}")
    if not mine["logps_apart"] <= LOGPS_APART:
        raise AssertionError(f"log-probs of the same answers differ by {mine['logps_apart']:.1e} nats")
