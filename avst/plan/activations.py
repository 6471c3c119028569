"""Bytes that the packed forward keeps for its backward: every tensor that autograd saves, counted from the code.

tests/plan/test_memory.py counts the real ones by autograd's hooks. n prompts of P tokens with G answers of C each:
L = n(P + GC) tokens, of which A = nGC are answers'. D, F, K: widths of the states, the MLP, the keys.
"""

from __future__ import annotations

from avst.plan.shape import Shape, Tower
from avst.plan.work import Work

LORA_WIDTH = 4  # bytes of an adapter: peft keeps them in float32
LOGITS_CPU, LOGITS_GPU = 1 << 21, 1 << 25  # avst.models.logprobs: float32 numbers of a piece


def language_layer(shape: Shape, work: Work, mask: bool = False) -> float:
    """One layer of the language model, [prompt | answers] packed.

    Two norms keep their input in float32 and, where their weight learns, what they multiply it with. The linear layers
    keep their inputs: one tensor for query, key and value, one for gate and up, unless adapters or autocast make a copy
    for each. Attention keeps queries, keys, values and results, the answers' queries gathered, and the prompt's keys
    and values once for each answer.

    mask: SDPA on a CPU takes a dense mask of the answers.
    """
    D, F, K, w, r = shape.D, shape.F, shape.K, work.width, shape.itemsize
    n, G, P, C = work.prompts, work.G, work.largest.total, work.longest
    A, L = n * G * C, work.tokens
    wide = max(4, r)
    norms = 2 * (wide * (D + 1) + (0 if shape.lora else r * D))
    one_each, shared = 6 * D + F, 3 * D + F
    adapters = 0.0
    if shape.lora:
        kept = w if work.autocast else LORA_WIDTH
        inputs = kept * (shared if r == LORA_WIDTH and not work.autocast else one_each)
        adapters = kept * shape.rank * shape.adapted / shape.layers
    else:
        inputs = w * (one_each if w != r else shared)
    attention = w * (2 * D + 2 * K) + 4 * shape.heads
    mlp = 3 * F * w
    total = L * (norms + inputs + adapters + attention + mlp)
    total += w * (A * D + 2 * K * n * G * (P + C))
    if mask:
        total += w * n * C * (P + C)
    return float(total)


def language(shape: Shape, work: Work, mask: bool = False) -> float:
    """All layers, or with checkpointing their inputs and one layer at a time; the embeddings, the last norm."""
    layer = language_layer(shape, work, mask)
    L, D, r = work.tokens, shape.D, shape.itemsize
    rest = L * D * (max(4, r) + (0 if shape.lora else r)) + 2 * L * (D // shape.heads) * r
    if work.checkpointing:
        return layer + shape.layers * L * D * r + rest
    return shape.layers * layer + rest


def head(shape: Shape, work: Work, piece: int = LOGITS_GPU) -> float:
    """The states that predict, float32 sums where the head is frozen, and three pieces of logits at work."""
    A = work.prompts * work.G * work.longest
    states = A * shape.D * (work.width + (0 if shape.head_trains else 8))
    return float(states + 3 * 4 * min(piece, A * shape.words))


def tower(found: Tower | None, positions: int, work: Work, itemsize: int) -> float:
    """A tower that learns; nothing where it does not. positions: patches, or frames of sound behind the convolutions.

    As a layer of the language model, with as many keys as queries, and query, key and value in one product.
    """
    if found is None or found.frozen:
        return 0.0
    w, r, d = work.width, itemsize, found.width
    block = positions * (2 * d * (max(4, r) + r) + w * (9 * d + 4 * found.inner))
    behind = positions * d * (max(4, r) + r + 2 * w)
    given = positions * found.pixels * w  # what the first product keeps: the pixels themselves
    if not found.trained:
        return float(behind)
    behind += given
    if work.checkpointing:
        return float(block + found.blocks * positions * d * r + behind)
    return float(found.blocks * block + behind)


def towers(shape: Shape, work: Work) -> float:
    patches, sound = work.prompts * work.largest.patches, work.prompts * work.largest.mel // 2
    return tower(shape.vision, patches, work, shape.itemsize) + tower(shape.audio, sound, work, shape.itemsize)
