"""Bytes of one card by part. Exact: weights, gradients, optimizer, reference, features, the rollout's cache. Estimated:
the rest."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from avst.models.shared_cache import FIRST_TOKENS
from avst.plan import activations
from avst.plan.shape import Shape
from avst.plan.work import Work

CONTEXT = 1 << 30  # CUDA's context and its libraries' kernels
FRAGMENTS = 0.05  # of what tensors take
NF4 = 0.5 + 4 / 64  # bytes of a weight, and a float32 scale for each 64
BUCKET = 500_000_000  # numbers: DeepSpeed's reduce_bucket_size and allgather_bucket_size
SAMPLING_COPIES = 4  # of the rollout's logits in float32


@dataclass(frozen=True, slots=True)
class Memory:
    """All of it stands at once but the phases: the rollout (cache, scratch) and the update (gradients, activations).

    weights: of policy and adapters;  gathered: the twin of whole weights that ZeRO-3 and FSDP2 draw answers with,
    beside their shares;  buffers: of the engine;  features: of frozen towers, kept on the prompts;
    cache: keys and values of
    the prompts once and of their answers;  scratch: the prefill's layer, the sampler's logits;  logits: pieces of the
    head;  own: CUDA's;  vllm: what a colocated one sets aside of the card, unless it sleeps
    in the update.
    """

    weights: int
    reference: int
    optimizer: int
    buffers: int
    features: int
    gathered: int
    cache: int
    scratch: int
    gradients: int
    activations: int
    logits: int
    accumulates: bool
    own: int
    vllm: int = 0
    vllm_sleeps: bool = False

    @property
    def standing(self) -> int:
        return self.weights + self.reference + self.optimizer + self.buffers + self.features

    @property
    def rollout(self) -> int:
        return self.gathered + self.cache + self.scratch + self.vllm

    @property
    def update(self) -> int:
        """Gradients grow while activations go; from an earlier micro-batch they are there from the start."""
        kept = self.activations + self.logits
        kept = kept + self.gradients if self.accumulates else max(kept, self.gradients)
        return kept + (0 if self.vllm_sleeps else self.vllm)

    @property
    def tensors(self) -> int:
        return self.standing + max(self.rollout, self.update)

    @property
    def total(self) -> int:
        aside = 0 if self.vllm_sleeps and self.update >= self.rollout else self.vllm  # its fragments are in its share
        return round((self.tensors - aside) * (1 + FRAGMENTS if self.own else 1)) + aside + self.own

    @property
    def largest(self) -> str:
        """The part to make smaller first, of those that stand at the peak."""
        phase = ("gradients", "activations", "logits") if self.update >= self.rollout else ("gathered", "cache")
        if self.rollout > self.update or not self.vllm_sleeps:
            phase = (*phase, "vllm")
        return max(("weights", "reference", "optimizer", "features", *phase), key=lambda name: getattr(self, name))

    def as_json(self) -> dict[str, Any]:
        more = {"rollout_peak": self.rollout, "update_peak": self.update, "total": self.total, "largest": self.largest}
        return {**asdict(self), **more}


def memory(shape: Shape, work: Work, cards: int = 1, cpu: bool = False, room: float = 0.0) -> Memory:
    """room: bytes of a card, of which a colocated vLLM takes its share;
    cpu: the dense mask and the small logits' pieces of a CPU, and no context of CUDA."""
    deepspeed, sharded = work.engine in ("zero2", "zero3"), work.engine in ("zero3", "fsdp2")
    if deepspeed and not shape.four_bit:
        shape = replace(shape, itemsize=work.width)  # its model is narrow, with wide copies of what trains
    weights, unshared, whole = _weights(shape, work, deepspeed)
    share = cards if sharded else 1
    trained_width = _trained_width(shape, work, deepspeed)
    gradients = shape.trainable * trained_width
    optimizer = shape.trainable * (12 if deepspeed and work.width == 2 else 2 * trained_width)
    buffers = 0
    if work.engine == "ddp" and cards > 1:
        buffers = gradients  # the reducer's buckets hold a copy
    elif deepspeed:
        buffers = min(BUCKET, shape.trainable) * work.width * (2 if work.engine == "zero2" else 1)
    patches_and_sound = 0
    for found, tokens in ((shape.vision, work.largest.video), (shape.audio, work.largest.audio)):
        if found is not None and found.frozen:
            patches_and_sound += tokens
    second = work.beta and not shape.lora
    return Memory(
        weights=weights // share + unshared,
        reference=shape.parameters * shape.itemsize // share if second else 0,
        optimizer=optimizer // (cards if deepspeed or sharded else 1),
        buffers=buffers,
        features=patches_and_sound * shape.D * work.width * work.asked,
        gathered=whole if sharded else 0,  # the shares stay beside it
        cache=0 if work.vllm else cache_bytes(shape, work),
        scratch=0 if work.vllm else _scratch(shape, work),
        gradients=gradients // (cards if deepspeed or sharded else 1),
        activations=round(activations.language(shape, work, cpu) + activations.towers(shape, work)),
        logits=round(activations.head(shape, work, activations.LOGITS_CPU if cpu else activations.LOGITS_GPU)),
        accumulates=work.micro_batches > 1 or buffers > 0,
        own=0 if cpu else CONTEXT,
        vllm=round(work.vllm_share * room),
        vllm_sleeps=work.vllm_sleeps,
    )


def _weights(shape: Shape, work: Work, deepspeed: bool) -> tuple[int, int, int]:
    """(weights and adapters as they are kept, those that an engine cannot shard, all as a rollout's twin has them)."""
    size = shape.itemsize
    quantised = shape.weights * shape.layers if shape.four_bit else 0
    four_bits, others = round(quantised * NF4), shape.parameters - quantised
    if work.engine == "fsdp2":  # accelerate widens what trains, and leaves four bits to every card
        trained = sum(shape.trained.values())
        shared = trained * 4 + (others - trained) * size + shape.lora * activations.LORA_WIDTH
        return shared, four_bits, four_bits + (others + shape.lora) * work.width
    whole = four_bits + others * size
    adapters = shape.lora * (size if deepspeed else activations.LORA_WIDTH)
    copies = 0
    if work.autocast and shape.itemsize > work.width and not deepspeed and not shape.lora:
        copies = shape.weights * shape.layers * work.width  # autocast keeps what it narrowed for the whole pass
    return whole + adapters + copies, 0, whole + adapters


def _trained_width(shape: Shape, work: Work, deepspeed: bool) -> int:
    if deepspeed:
        return work.width
    if work.engine == "fsdp2" or shape.lora:
        return 4
    return shape.itemsize


def cache_bytes(shape: Shape, work: Work) -> int:
    """Keys and values while answers are written: every prompt but its last token once, and for each answer room that
    doubles from FIRST_TOKENS (avst.models.shared_cache)."""
    room = FIRST_TOKENS
    while room < work.longest:
        room *= 2
    prompts = work.rows // work.G
    states = prompts * (work.largest.total - 1) + work.rows * room
    return 2 * shape.layers * shape.K * states * shape.itemsize


def _scratch(shape: Shape, work: Work) -> int:
    """A layer of one prompt's prefill without gradient, or the sampler's logits."""
    prefill = work.largest.total * (6 * shape.D + 3 * shape.F) * work.width
    return max(prefill, SAMPLING_COPIES * 4 * work.rows * shape.words)
