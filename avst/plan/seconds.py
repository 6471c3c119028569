"""Seconds of an optimizer step by phase: products over the card's rate, bytes over its bandwidth, operations to start.

A phase takes (floating-point operations / rate + bytes moved by all else / bandwidth), or where it is longer on a card
that works beside its host, the time to start its operations. How many bytes and operations a layer has was counted on
the real modules (scripts/plan_check/counts.py), not guessed.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from avst.plan.cards import Card, Machines
from avst.plan.shape import Shape, Tower
from avst.plan.work import Work

# Bytes that a layer's element-wise operations read and write, a token: forward and backward, (D, F, K, and K for each
# of the prompt's keys that stand once for every answer), by bytes of a number and whether there are adapters.
MOVED = {
    (4, False): ((136.5, 20.6, 68.7, 13.5), (364.9, 36.0, 237.7, 1.6)),
    (4, True): ((196.5, 60.6, 108.7, 13.5), (424.9, 64.0, 245.7, 1.6)),
    (2, False): ((112.5, 10.5, 36.3, 6.2), (278.5, 18.1, 119.1, 0.9)),
    (2, True): ((220.5, 64.5, 84.3, 6.2), (392.4, 70.1, 155.1, 0.9)),
}
# Operations that are started, of a layer: forward, backward; more of them for each adapter; beside the layers. A layer
# of a decoding step has 57, but takes Python as long as 200 of a forward's (the views of the shared cache), and
# the rest of a step, which is generate's own, as long as 400: measured on a CPU at a width at which all else is small.
FORWARD_OPS, BACKWARD_OPS, OTHER_OPS, ADAPTER_OPS = 51, 99, 55, 4
DECODE_OPS, DECODE_OTHER_OPS = 200, 400
HEAD_PASSES = 13  # over float32 logits, either way
WINDOW_OPS = 6  # of each window that SDPA sees by itself; flash-attn takes all in one call
ADAM_PASSES = 10  # norm and clip: 3; AdamW: 7
ATTENTION_BACKWARD = 2.5  # flash attention forms the scores again: five products for two

# docs/benchmarks.md, one core of the machine named there: 0.463 s for 40 s at 2 fps with sound, 32 times less from the
# cache; 3.11 ms for the four rewards of 6 long answers
DECODE_S, CACHED, REWARD_S = 0.463 / 40, 1 / 32, 0.00311 / 6


@dataclass(frozen=True, slots=True)
class Seconds:
    """Of one optimizer step, named as avst logs them; optimizer and communication, which avst does not log apart.

    communication: that which no computation hides;  data: what the loader's workers do not hide.
    """

    data: float
    rollout_prefill: float
    rollout_decode: float
    rewards: float
    reference: float
    forward: float
    backward: float
    optimizer: float
    communication: float

    @property
    def rollout(self) -> float:
        return self.rollout_prefill + self.rollout_decode

    @property
    def step(self) -> float:
        return sum(float(getattr(self, f.name)) for f in fields(self))

    @property
    def longest(self) -> str:
        return max((f.name for f in fields(self)), key=lambda name: float(getattr(self, name)))

    def as_json(self) -> dict[str, Any]:
        return {**{f.name: getattr(self, f.name) for f in fields(self)}, "step": self.step}


@dataclass(frozen=True, slots=True)
class Load:
    """products: floating-point operations;  moved: bytes;  ops: operations started."""

    products: float = 0.0
    moved: float = 0.0
    ops: float = 0.0

    def __add__(self, other: Load) -> Load:
        return Load(self.products + other.products, self.moved + other.moved, self.ops + other.ops)

    def __mul__(self, times: float) -> Load:
        return Load(self.products * times, self.moved * times, self.ops * times)

    def on(self, card: Card) -> float:
        work = self.products / card.operations + self.moved / card.bytes
        start = self.ops * card.op_us * 1e-6
        return max(work, start) if card.asynchronous else work + start


def seconds(shape: Shape, work: Work, machines: Machines) -> Seconds:
    """One step on all cards, which wait for each other."""
    from avst.plan.network import exposed

    card, n, share = machines.card, work.micro_batches, 1 / work.iterations
    once, again = _towers_forward(shape, work, frozen=True), _towers_forward(shape, work, frozen=False)
    policy = language_forward(shape, work) + again
    back = language_backward(shape, work) + _towers_backward(shape, work)
    if work.checkpointing:
        back = back + _layers(shape, work) + again
    prefill = (_prefill(shape, work) * work.prompts + once + again) * n
    reference = _layers(shape, work) + _head(shape, work, forward_products=1) + again
    backward = back.on(card)
    rollout = prefill.on(card) + decode(shape, work, machines)
    busy = rollout * share + n * ((policy.on(card)) + backward)
    return Seconds(
        data=_data(work, machines, busy) * share,
        rollout_prefill=prefill.on(card) * share,
        rollout_decode=decode(shape, work, machines) * share,
        rewards=work.asked * work.G * REWARD_S * share,
        reference=(reference * n).on(card) * share if work.beta else 0.0,
        forward=(policy * n).on(card),
        backward=backward * n,
        optimizer=_optimizer(shape, work, machines),
        communication=exposed(shape, work, machines, backward),
    )


def pairs(prompt: float, answers: int, answer: float) -> float:
    """Pairs of query and key: a prompt's token sees half of its prompt on average, an answer's all of it and half of
    its own."""
    return prompt * (prompt + 1) / 2 + answers * answer * (prompt + (answer + 1) / 2)


def _moved(shape: Shape, work: Work, which: int, tokens: float, shared: float) -> float:
    d, f, k, again = MOVED[min(work.width, 4), bool(shape.lora)][which]
    return shape.layers * (tokens * (d * shape.D + f * shape.F + k * shape.K) + again * shape.K * shared)


def _layers(shape: Shape, work: Work) -> Load:
    """All layers of the language model over a micro-batch's row, forward."""
    P, C, n = work.prompt.total, work.answer, work.prompts
    tokens = n * (P + work.G * C)
    products = 2 * (shape.weights * shape.layers + shape.lora) * tokens
    products += 4 * shape.D * shape.layers * n * pairs(P, work.G, C)
    ops = shape.layers * FORWARD_OPS + shape.adapted * ADAPTER_OPS + OTHER_OPS
    return Load(products, _moved(shape, work, 0, tokens, n * work.G * (P + C)), ops)


def _head(shape: Shape, work: Work, forward_products: int) -> Load:
    A = work.prompts * work.G * work.answer
    return Load(2 * forward_products * shape.D * shape.words * A, HEAD_PASSES * 4 * shape.words * A, OTHER_OPS)


def language_forward(shape: Shape, work: Work) -> Load:
    """With the head on answers alone; a frozen head's gradient is formed here (avst.models.logprobs)."""
    return _layers(shape, work) + _head(shape, work, 1 if shape.head_trains else 2)


def language_backward(shape: Shape, work: Work) -> Load:
    """Of the states always, of the weights where they learn."""
    P, C, n = work.prompt.total, work.answer, work.prompts
    tokens = n * (P + work.G * C)
    learn = 2 if shape.trained.get("layers") else 1
    products = 2 * (learn * shape.weights * shape.layers + 2 * shape.lora) * tokens
    products += ATTENTION_BACKWARD * 4 * shape.D * shape.layers * n * pairs(P, work.G, C)
    ops = shape.layers * BACKWARD_OPS + shape.adapted * ADAPTER_OPS + OTHER_OPS
    load = Load(products, _moved(shape, work, 1, tokens, n * work.G * (P + C)), ops)
    return load + _head(shape, work, 3) if shape.head_trains else load


def _prefill(shape: Shape, work: Work) -> Load:
    """One prompt by itself, to its cache."""
    P = work.prompt.total
    products = 2 * (shape.weights * shape.layers + shape.lora) * P + 4 * shape.D * shape.layers * P * (P + 1) / 2
    ops = shape.layers * FORWARD_OPS + shape.adapted * ADAPTER_OPS + OTHER_OPS
    return Load(products, _moved(shape, work, 0, P, 0.0), ops)


def decode(shape: Shape, work: Work, machines: Machines) -> float:
    """Seconds until the longest answer of the step is written."""
    rounds = -(-work.asked * work.G // work.rows)
    reading, computing, starting = token_seconds(shape, work, machines)
    busy = max(reading, computing)
    each = max(busy, starting) if machines.card.asynchronous else busy + starting
    return rounds * work.drawn(machines.cards) * each


def token_seconds(shape: Shape, work: Work, machines: Machines) -> tuple[float, float, float]:
    """A token of all answers that are written together: seconds of reading, of computing, of starting operations.

    Every token reads all weights, the prompts' states once and the answers' own; how many answers are still being
    written is taken from their mean length.
    """
    card, size = machines.card, _decoded_width(shape, work)
    alive = work.rows * min(1.0, work.answer / work.drawn(machines.cards))
    state = 2 * shape.layers * shape.K * work.width
    read = (shape.weights * shape.layers + shape.D * shape.words) * size
    read += state * (work.rows // work.G * work.prompt.total + alive * work.answer / 2)
    d, f, k, _ = MOVED[min(work.width, 4), bool(shape.lora)][0]
    other = alive * shape.layers * (d * shape.D + f * shape.F + k * shape.K) + alive * HEAD_PASSES * 4 * shape.words
    products = 2 * alive * (shape.weights * shape.layers + shape.lora + shape.D * shape.words)
    products += 4 * alive * shape.D * shape.layers * (work.prompt.total + work.answer / 2)
    ops = shape.layers * DECODE_OPS + shape.adapted * ADAPTER_OPS + DECODE_OTHER_OPS
    moving = other / card.bytes
    return read / card.read + moving, products / card.operations + moving, ops * card.op_us * 1e-6


def _decoded_width(shape: Shape, work: Work) -> float:
    """Bytes a weight costs at each token: four bits are unpacked to 16 and these read."""
    return work.width * 2 + 0.5 if shape.four_bit else float(work.width)


def _towers_forward(shape: Shape, work: Work, frozen: bool) -> Load:
    """Those that are frozen (once a prompt), or those that learn (in each pass)."""
    load = Load()
    for found, positions, seen, tokens in _media(shape, work):
        if found.frozen == frozen and positions:
            load = load + _tower(found, positions, seen, tokens, work)
    return load


def _media(shape: Shape, work: Work) -> list[tuple[Tower, float, int, float]]:
    """(tower, positions of a micro-batch, positions of a frame, tokens that come of them)."""
    prompt, n = work.prompt, work.prompts
    found = [(shape.vision, float(n * prompt.patches), prompt.frame_patches, float(n * prompt.video))]
    if shape.audio is not None:
        found.append((shape.audio, n * prompt.mel / 2, shape.audio.window, float(n * prompt.audio)))
    return found


def _tower(found: Tower, positions: float, frame: int, tokens: float, work: Work) -> Load:
    window = min(found.window, frame)
    seen = found.full * frame + (found.blocks - found.full) * window
    products = 2 * positions * (found.weights * found.blocks + found.before) + 2 * tokens * found.behind
    products += 4 * found.width * positions * seen
    d, f, _, _ = MOVED[min(work.width, 4), False][0]
    calls = positions * (found.full / max(1, frame) + (found.blocks - found.full) / max(1, window)) if work.sdpa else 0
    ops = found.blocks * FORWARD_OPS + WINDOW_OPS * calls
    return Load(products, positions * found.blocks * (d * found.width + f * found.inner), ops)


def _towers_backward(shape: Shape, work: Work) -> Load:
    load = Load()
    for found, positions, seen, tokens in _media(shape, work):
        if found.frozen or not positions:
            continue
        if found.trained:
            load = load + _tower(found, positions, seen, tokens, work) * 2
        else:
            load = load + Load(4 * tokens * found.behind)
    return load


def _optimizer(shape: Shape, work: Work, machines: Machines) -> float:
    share = machines.cards if work.engine in ("zero2", "zero3", "fsdp2") else 1
    width = 4 if shape.lora or work.engine in ("zero2", "zero3", "fsdp2") else shape.itemsize
    return ADAM_PASSES * width * shape.trainable / share / machines.card.bytes


def _data(work: Work, machines: Machines, busy: float) -> float:
    """What decoding takes beyond the step that it goes on beside. busy: seconds of that step."""
    workers = min(work.workers, max(1, machines.cores // machines.per_host))
    decoding = work.asked * work.prompt.seconds * DECODE_S
    return decoding if not work.workers else max(0.0, decoding / workers - busy)
