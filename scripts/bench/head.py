"""The log-prob head: answers' tokens against a vocabulary of 152,064, forward and backward.

Compared, on the same states and the same head in float32:
    plain       all logits at once (avst.models.logprobs.plain_logps)
    pieces      what avst runs (avst.models.logprobs.token_logps)
Each runs in a process of its own, by turns, so that its peak memory is its own. The head's weights, gradient and the
states (what both must hold) are taken off the peak. Sizes: 6 answers of 64 and of 256 tokens, hidden 1024 (a size
between the tiny models' and the 7B's 3584, where one product on two cores takes a minute).
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import Any

from scripts.bench.arm import Arm, peak_bytes
from scripts.bench.figure import Figure

WORDS = 152_064
SHAPES = ((6 * 64, 1024), (6 * 256, 1024))
QUICK = ((24, 32),)


def arm(way: str, tokens: int, hidden: int, words: int, trainable: bool) -> Callable[[], dict[str, Any]]:
    """One forward and backward a call; the first reply's detail says what the process held before it."""
    import torch

    from avst.models.logprobs import Head, plain_logps, token_logps

    torch.manual_seed(0)
    head = Head(hidden, words, bias=False).requires_grad_(trainable)
    states = torch.randn(tokens, hidden).mul_(0.5).requires_grad_()
    targets = torch.randint(0, words, (tokens,))
    grad = torch.randn(tokens)
    head.weight.grad = torch.zeros_like(head.weight) if trainable else None
    states.grad = torch.zeros_like(states)
    before = peak_bytes()

    def once() -> dict[str, Any]:
        head.weight.grad, states.grad = None, None
        logps, _ = (plain_logps if way == "plain" else token_logps)(states, targets, head, 1.0)
        (logps * grad).sum().backward()
        assert states.grad is not None
        return {"before_bytes": before, "logps": float(logps.sum()), "gradient": float(states.grad.abs().sum())}

    return once


def run(quick: bool) -> list[Figure]:
    """Time and memory by size, with a head that trains and one that is frozen (LoRA)."""
    figures: list[Figure] = []
    for tokens, hidden in QUICK if quick else SHAPES:
        for trainable in (True, False):
            sizes = {"tokens": tokens, "hidden": hidden, "words": 1000 if quick else WORDS, "trainable": trainable}
            figures += _compare(sizes, repeats=1 if quick else 3)
    return figures


def _compare(sizes: dict[str, Any], repeats: int) -> list[Figure]:
    function = "scripts.bench.head:arm"
    with Arm(function, way="plain", **sizes) as plain, Arm(function, way="pieces", **sizes) as pieces:
        for _ in range(repeats + 1):  # the first is the warm-up
            plain.run()
            pieces.run()
        peaks = {
            name: one.peak_bytes - one.last["before_bytes"] for name, one in (("plain", plain), ("pieces", pieces))
        }
        seconds = {"plain": plain.seconds[1:], "pieces": pieces.seconds[1:]}
        for name in ("logps", "gradient"):
            a, b = plain.last[name], pieces.last[name]
            if abs(a - b) > 1e-4 * abs(a):
                raise AssertionError(f"{name} of the two ways differ: {a} and {b}")
    how = {"sizes": sizes, "seconds": seconds, "peak_bytes": peaks}
    label = f"{sizes['tokens']} tokens, {'head trains' if sizes['trainable'] else 'head frozen'}"
    faster = median(p / q for p, q in zip(seconds["plain"], seconds["pieces"], strict=True))
    return [
        Figure("head", f"time, plain / pieces: {label}", faster, "x", ">= 1", how),
        Figure(
            "head", f"memory beyond weights, pieces / plain: {label}", peaks["pieces"] / peaks["plain"], "x", "", how
        ),
    ]
