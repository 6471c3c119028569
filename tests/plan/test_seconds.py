"""Products against torch's own count, the rest by hand: pairs, decoding, communication, the longest answer."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from avst.models import attention
from avst.models.families import prompt_positions
from avst.models.loading import load
from avst.models.packing import pack
from avst.plan import seconds
from avst.plan.cards import Card, Machines
from avst.plan.network import LATENCY_S, exposed, ring
from avst.plan.shape import shape_of
from tests.plan.test_memory import C, G, prompt_of, work_for
from tests.tiny_world import text_tokens


def test_pairs_are_those_of_the_mask() -> None:
    """Prompt of 5, two answers of 3: the mask drawn in docs/architecture.md, counted."""
    seen = torch.zeros(11, 11, dtype=torch.bool)
    seen[:5, :5] = torch.ones(5, 5).tril().bool()
    for start in (5, 8):
        seen[start : start + 3, :5] = True
        seen[start : start + 3, start : start + 3] = torch.ones(3, 3).tril().bool()
    assert seconds.pairs(5, 2, 3) == int(seen.sum())


@pytest.mark.parametrize("kind", ["qwen2_5_vl", "qwen2_5_omni"])
@pytest.mark.parametrize("freeze", [[], ["language"]], ids=["all learn", "language frozen"])
def test_products_are_those_that_torch_counts(
    tiny_folders: dict[str, Path], kind: str, freeze: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forward and backward of the language model with its head, the towers' features given. torch's counter takes every
    pair for seen, and no part of attention's backward twice."""

    def dense(queries: int, keys: int) -> Any:  # torch's bias object and a counter of operations exclude each other
        return torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries)

    monkeypatch.setattr(attention, "causal_lower_right", dense)
    model: Any
    model, _, _ = load(tiny_folders[kind], dtype="float32", freeze=freeze)
    prompt, told = prompt_of(tiny_folders[kind], model.config)
    shape = shape_of(model)
    work = work_for(told, shape)
    row = pack([prompt], [[text_tokens(prompt, C, seed) for seed in range(G)]], [prompt_positions(model, prompt)])
    with FlopCounterMode(display=False, depth=None) as forward:
        out = model(packed=row)["logps"]
    with FlopCounterMode(display=False, depth=None) as backward:
        out.sum().backward()

    def counted(counter: FlopCounterMode, *names: str) -> int:
        found = counter.get_flop_counts()["Global"]
        return sum(flops for name, flops in found.items() if any(part in str(name) for part in names))

    products = counted(forward, "mm") + counted(backward, "mm")
    both = seconds.language_forward(shape, work) + seconds.language_backward(shape, work)
    towers = seconds._towers_forward(shape, work, False) + seconds._towers_backward(shape, work)
    pairs = 4 * shape.D * shape.layers * seconds.pairs(told.total, G, C) * (1 + seconds.ATTENTION_BACKWARD)
    shares = towers_products(shape, work)
    assert both.products - pairs + shares == pytest.approx(products, rel=0.03)
    assert towers.products > shares


def towers_products(shape: Any, work: Any) -> float:
    """Of the towers without attention and without what torch counts as a convolution, forward and backward."""
    prompt = work.prompt
    total = 2.0 * prompt.patches * shape.vision.weights * shape.vision.blocks + 2 * prompt.video * shape.vision.behind
    if shape.audio is not None:
        total += prompt.mel * shape.audio.weights * shape.audio.blocks + 2 * prompt.audio * shape.audio.behind
    return 3 * total


CARD = Card(memory_gib=10, tflops=100, bandwidth_gb_s=1000, link_gb_s=100, matmul_share=1, memory_share=1, read_share=1)


def test_decoding_is_bound_by_memory_or_by_starting(tiny_folders: dict[str, Path]) -> None:
    model, _, _ = load(tiny_folders["qwen2_5_vl"], dtype="float32")
    _, told = prompt_of(tiny_folders["qwen2_5_vl"], model.config)
    shape = shape_of(model)
    work = work_for(told, shape, answer=16, longest=16)
    waiting = Machines("c", replace(CARD, op_us=5.0), 1, 1)
    ops = shape.layers * seconds.DECODE_OPS + seconds.DECODE_OTHER_OPS
    assert seconds.decode(shape, work, waiting) == pytest.approx(16 * ops * 5e-6)
    reading = Machines("c", replace(CARD, op_us=0.0), 1, 1)
    states = 2 * shape.layers * shape.K * 4 * (told.total + G * 16 / 2)
    read = 4 * (shape.weights * shape.layers + shape.D * shape.words) + states
    assert seconds.decode(shape, work, reading) >= 16 * read / 1e12
    fewer = replace(work, max_rows=1, prompts=2)  # one prompt after the other
    assert seconds.decode(shape, fewer, waiting) == pytest.approx(2 * 16 * ops * 5e-6)


def test_the_longest_answer_of_many(tiny_folders: dict[str, Path]) -> None:
    model, _, _ = load(tiny_folders["qwen2_5_vl"], dtype="float32")
    _, told = prompt_of(tiny_folders["qwen2_5_vl"], model.config)
    work = work_for(told, shape_of(model), answer=100.0, longest=1000)
    assert work.drawn(1) == pytest.approx(100 * (math.log(3) + 0.5772))
    assert work.drawn(10**6) == 1000
    assert replace(work, answer=1000.0).drawn(4) == 1000


def test_communication_by_hand(tiny_folders: dict[str, Path]) -> None:
    """Eight cards on two hosts: seven eighths of the bytes at the hosts' network, three hops."""
    model, _, _ = load(tiny_folders["qwen2_5_vl"], dtype="float32")
    _, told = prompt_of(tiny_folders["qwen2_5_vl"], model.config)
    shape = shape_of(model)
    near, far = Machines("c", CARD, 4, 4), Machines("c", CARD, 8, 4, network_gb_s=10.0)
    assert ring(1e9, near) == pytest.approx(0.75 * 1e9 / 100e9 + 2 * LATENCY_S / 4)
    assert ring(1e9, far) == pytest.approx(7 / 8 * 1e9 / 10e9 + 3 * LATENCY_S)
    size = 4 * shape.trainable
    work = work_for(told, shape, engine="ddp")
    assert exposed(shape, work, far, backward=0.0) == pytest.approx(2 * ring(size, far))
    assert exposed(shape, work, far, backward=1e9) == ring(0, far)
    sharded = replace(work, engine="zero2", micro_batches=3)
    assert exposed(shape, sharded, far, backward=1e9) == pytest.approx(4 * ring(size, far))
    assert exposed(shape, work, Machines("c", CARD, 1, 1), backward=0.0) == 0.0
