"""The card of this machine, measured: a matrix product, a copy in memory, weights read for a few rows, a small
operation. For a GPU in bfloat16, for
a CPU in float32 with torch's threads."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import torch

from avst.plan.cards import Card
from avst.plan.seconds import FORWARD_OPS

Clock = Callable[[], float]


def product_rate(seconds: float = 0.3, clock: Clock = time.perf_counter) -> float:
    """Floating-point operations a second of a matrix product; the best of the time."""
    device = _device()
    n, dtype = (8192, torch.bfloat16) if device == "cuda" else (768, torch.float32)
    a = torch.ones(n, n, device=device, dtype=dtype)
    return 2.0 * n**3 / _quickest(lambda: torch.mm(a, a), seconds, clock)


def copy_rate(seconds: float = 0.3, clock: Clock = time.perf_counter) -> float:
    """Bytes a second, read and written, of an addition to a tensor larger than caches. Its result is a new tensor, as
    in a model: a CPU then waits for new pages."""
    device = _device()
    a = torch.ones(1 << (28 if device == "cuda" else 22), device=device)
    return 2.0 * a.numel() * 4 / _quickest(lambda: torch.add(a, 1.0), seconds, clock)


def read_rate(seconds: float = 0.3, clock: Clock = time.perf_counter) -> float:
    """Bytes of weights a second that a product with the few rows of decoding reads, from beyond the caches."""
    device = _device()
    count, n, dtype = (64, 4096, torch.bfloat16) if device == "cuda" else (48, 1024, torch.float32)
    weights = [torch.ones(n, n, device=device, dtype=dtype) for _ in range(count)]
    rows = torch.ones(8, n, device=device, dtype=dtype)

    def once() -> None:
        for weight in weights:
            torch.nn.functional.linear(rows, weight)

    return count * n * n * weights[0].element_size() / _quickest(once, seconds, clock)


@torch.no_grad()
def operation_time(seconds: float = 0.2, clock: Clock = time.perf_counter) -> float:
    """Seconds from one operation to the next where they are all but empty: a layer of the models, of width 32, over one
    token. Most of it is Python's."""
    from transformers import Qwen2_5_VLTextConfig
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLDecoderLayer

    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [4, 2, 2]}
    sizes: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
    sizes |= {"num_attention_heads": 2}
    config = Qwen2_5_VLTextConfig(**sizes, num_key_value_heads=1, rope_parameters=rope)
    config._attn_implementation = "sdpa"
    layer = Qwen2_5_VLDecoderLayer(config, 0).eval().to(_device())
    state, angles = torch.ones(1, 1, 32, device=_device()), torch.ones(1, 1, 16, device=_device())

    def some() -> None:
        for _ in range(20):
            layer(state, position_embeddings=(angles, angles))

    return _quickest(some, seconds, clock) / 20 / FORWARD_OPS


def this_machine(seconds: float = 0.5, clock: Clock = time.perf_counter) -> Card:
    """Measured now: what else the machine does makes it slower, so the quickest of many tries counts."""
    gpu = _device() == "cuda"
    if gpu:
        memory = torch.cuda.get_device_properties(0).total_memory / 2**30
    else:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    copied = copy_rate(seconds, clock)
    return Card(
        memory_gib=memory,
        tflops=product_rate(seconds, clock) / 1e12,
        bandwidth_gb_s=copied / 1e9,
        matmul_share=1.0,
        memory_share=1.0,
        read_share=read_rate(seconds, clock) / copied,
        op_us=operation_time(seconds / 2, clock) * 1e6,
        asynchronous=gpu,
    )


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _quickest(once: Callable[[], object], seconds: float, clock: Clock) -> float:
    def timed() -> float:
        start = clock()
        once()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return clock() - start

    timed()
    end, best = time.perf_counter() + seconds, timed()
    while time.perf_counter() < end:
        best = min(best, timed())
    return best
