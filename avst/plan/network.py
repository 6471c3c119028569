"""Seconds of communication that no computation hides, by engine."""

from __future__ import annotations

import math

from avst.plan.cards import Machines
from avst.plan.shape import Shape
from avst.plan.work import Work

LATENCY_S = 20e-6  # of a collective's hop between hosts; within one a fourth


def exposed(shape: Shape, work: Work, machines: Machines, backward: float) -> float:
    """backward: seconds of the last micro-batch's, beside which DDP and FSDP send. DeepSpeed's ZeRO-2 does not overlap
    by default (overlap_comm), ZeRO-3 does."""
    if machines.cards == 1 or work.engine == "none":
        return 0.0
    weights, gradients = shape.parameters * work.width, shape.trainable * _width(shape, work)
    if work.engine == "ddp":
        return max(ring(gradients, machines) * 2 - backward, ring(0, machines))
    if work.engine == "zero2":
        # gradients scattered at every micro-batch, the weights that learned gathered once
        return ring(gradients, machines) * work.micro_batches + ring(shape.trainable * work.width, machines)
    passes = 2 * work.micro_batches + (work.micro_batches if work.beta and not shape.lora else 0)
    layers = ring(weights, machines) * passes + ring(gradients, machines) * work.micro_batches
    rollout = ring(weights, machines) / work.iterations  # gathered whole, once
    return max(layers - backward * work.micro_batches, 0.0) + rollout


def ring(size: float, machines: Machines) -> float:
    """Seconds of one reduce-scatter or all-gather of `size` bytes: (N - 1)/N of them through the narrowest place, the
    link of a card or, between hosts, the host's network."""
    n = machines.cards
    rate = machines.card.link_gb_s * 1e9
    if machines.hosts > 1:
        rate = min(rate, machines.network_gb_s * 1e9)
    hop = LATENCY_S if machines.hosts > 1 else LATENCY_S / 4
    return (n - 1) / n * size / rate + hop * math.log2(n)


def _width(shape: Shape, work: Work) -> int:
    """Bytes of a gradient on its way."""
    if work.engine in ("zero2", "zero3", "fsdp2"):
        return work.width
    return 4 if shape.lora else shape.itemsize
