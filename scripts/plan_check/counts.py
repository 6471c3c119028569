"""The constants of avst/plan/seconds.py, counted again: python -m scripts.plan_check.counts.

A layer's share is the difference between a model of two layers and one of one. Bytes are those of all operations but
products, read and written; their coefficients by D, F, K are a least-squares fit over six shapes, whose last figure
says how far it is off at worst.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import torch
from peft import get_peft_model
from torch.utils._python_dispatch import TorchDispatchMode

from avst.models import attention
from avst.models.loading import lora_config
from avst.models.packing import pack
from avst.rollout import Sampling, rollout
from scripts.bench.forward_arms import Shape, text_prompt, words

PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "convolution", "convolution_backward", "linalg_vecdot")
VIEWS = {
    "view",
    "_unsafe_view",
    "t",
    "transpose",
    "expand",
    "slice",
    "unsqueeze",
    "permute",
    "squeeze",
    "split",
    "alias",
}
VIEWS |= {"detach", "select", "reshape", "unbind", "split_with_sizes", "as_strided", "empty", "new_empty", "empty_like"}
SHAPES = (  # D, F, heads, heads of keys, P, G, C
    *((64, 192, 4, 2, 200, 4, 30), (64, 384, 4, 2, 200, 4, 30), (128, 192, 4, 2, 200, 4, 30)),
    *((128, 512, 8, 1, 300, 2, 60), (64, 192, 4, 4, 100, 8, 20), (96, 300, 4, 1, 250, 6, 10)),
)


class Count(TorchDispatchMode):
    """Operations that are no views, and the bytes of those that are no products."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()
        self.moved = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        name = function._schema.name.split("::")[1]
        if name.rstrip("_") not in VIEWS:
            self.calls[name] += 1
            if name not in PRODUCTS and "scaled_dot_product" not in name:
                self.moved += _bytes(args) + _bytes(out)
        return out


def _bytes(value: Any) -> int:
    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size()
    return sum(map(_bytes, value)) if isinstance(value, list | tuple) else 0


def passes(layers: int, dtype: torch.dtype, lora: bool, shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """(operations, bytes) of the forward and of the backward pass."""
    D, F, heads, kv, P, G, C = shape
    model = Shape(hidden=D, layers=layers, heads=heads, kv_heads=kv, width=F).build().to(dtype)
    if lora:
        model = get_peft_model(model, lora_config(model, 8))
    row = pack([text_prompt(P)], [words(G, C)], [text_prompt(P).positions])
    with Count() as forward:
        logps = model(packed=row)["logps"]
    with Count() as backward:
        logps.sum().backward()
    return [(sum(count.calls.values()), count.moved) for count in (forward, backward)]


def main() -> None:
    # torch's bias object and a dispatch mode exclude each other; a CPU makes the mask of it all the same
    attention.causal_lower_right = lambda q, k: torch.ones(q, k, dtype=torch.bool).tril(k - q)  # type: ignore[assignment]
    for dtype in (torch.float32, torch.bfloat16):
        for lora in (False, True):
            found: list[list[list[float]]] = [[], []]
            for shape in SHAPES:
                one, two = (passes(layers, dtype, lora, shape) for layers in (1, 2))
                for which in (0, 1):
                    found[which].append([two[which][i] - one[which][i] for i in (0, 1)])
            for which, name in enumerate(("forward", "backward")):
                _fit(f"{dtype}, {'LoRA' if lora else 'full'}, {name}", found[which])
    decoded = [[_decode(layers, tokens) for tokens in (5, 6)] for layers in (1, 2)]
    one, two = (last - first for first, last in decoded)
    print(f"decoding: {two - one} operations a layer, {2 * one - two} beside")


def _fit(name: str, found: list[list[float]]) -> None:
    known = []
    for D, F, heads, kv, P, G, C in SHAPES:
        K = D // heads * kv
        known.append([D, F, K, K * G * (P + C) / (P + G * C)])
    moved = np.array([b / (s[4] + s[5] * s[6]) for (_, b), s in zip(found, SHAPES, strict=True)])
    fit, *_ = np.linalg.lstsq(np.array(known), moved, rcond=None)
    worst = float(np.abs(np.array(known) @ fit / moved - 1).max())
    print(f"{name}: {found[0][0]:.0f} operations, bytes a token by D, F, K, KV {fit.round(1)}, off by {worst:.1%}")


def _decode(layers: int, tokens: int) -> int:
    model = Shape(hidden=64, layers=layers, heads=4, kv_heads=2, width=192).build().eval()
    with Count() as count:
        rollout(model, [text_prompt(50)], 4, Sampling(max_new_tokens=tokens), [10**6], 0)
    return sum(count.calls.values())


if __name__ == "__main__":
    main()
