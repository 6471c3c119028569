"""From 1 to 1,024 cards: what holds a run back, with the same batch a step and with one that grows.

Same batch: as many questions a step as the recipe asks on the cards that --gpus names, so that the updates are the
same; fewer cards accumulate, and cards beyond the questions of a step stand idle. Growing batch: as many questions a
card as the recipe says; an epoch then has fewer updates.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from avst.config import Recipe
from avst.plan.cards import Machines
from avst.plan.memory import memory
from avst.plan.seconds import Seconds, seconds, token_seconds
from avst.plan.shape import Shape
from avst.plan.work import Work, updates_of

COUNTS = tuple(2**power for power in range(11))
FEW_UPDATES = 100  # of a run: below, a larger batch has nothing left to average
WORDS = {
    "data": "decoding clips (CPU)",
    "rollout_prefill": "computing: prefill",
    "rollout_decode": "longest answer",
    "rewards": "rewards (CPU)",
    "reference": "computing: reference",
    "forward": "computing: forward",
    "backward": "computing: backward",
    "optimizer": "memory: optimizer",
    "communication": "communication",
}
TOKEN_WORDS = ("reading memory", "computing", "starting operations")


@dataclass(frozen=True, slots=True)
class Point:
    """hours: None where it does not fit or nobody says how many questions there are;  questions_an_hour: None where
    it does not fit;  efficiency: questions an hour and card, over those of one card (of the fewest that fit);
    updates: of the run;  limit: in words."""

    hours: float | None
    questions_an_hour: float | None
    efficiency: float | None
    updates: int | None
    limit: str


@dataclass(frozen=True, slots=True)
class Row:
    """cards, on hosts;  same, grows: with the same and with a growing batch;  memory: bytes of a card."""

    cards: int
    hosts: int
    memory: int
    same: Point
    grows: Point


def table(
    recipe: Recipe, shape: Shape, work: Work, questions: int | None, machines: Machines, cpu: bool = False
) -> list[Row]:
    """work: of one card of `machines`."""
    a_step = work.asked * machines.cards
    rows: list[Row] = []
    best: dict[str, float] = {}
    for cards in COUNTS:
        some = machines.of(cards)
        one = with_engine(work, cards)
        busy = min(cards, a_step)
        mine = -(-a_step // busy)  # questions of the card that has most, for which the others wait
        rounds = -(-mine // work.prompts)  # of smaller micro-batches before any card stands idle
        accumulated = replace(one, prompts=-(-mine // rounds), micro_batches=rounds)
        idle = cards - busy
        rows.append(
            Row(
                cards,
                some.hosts,
                memory(shape, one, cards, cpu, machines.card.room).total,
                _point(recipe, shape, accumulated, questions, some, cpu, best, "same", idle, a_step),
                _point(recipe, shape, one, questions, some, cpu, best, "grows", 0, a_step),
            )
        )
    return rows


def with_engine(work: Work, cards: int) -> Work:
    """One card has nobody to share with; several are launched under some engine."""
    if cards == 1 and work.engine == "ddp":
        return replace(work, engine="none")
    return replace(work, engine="ddp") if cards > 1 and work.engine == "none" else work


def _point(
    recipe: Recipe,
    shape: Shape,
    work: Work,
    questions: int | None,
    machines: Machines,
    cpu: bool,
    best: dict[str, float],
    mode: str,
    idle: int,
    a_step: int,
) -> Point:
    room = machines.card.room
    need = memory(shape, work, machines.cards, cpu, room)
    asked = a_step if mode == "same" else work.asked * machines.cards
    if need.total > room:
        return Point(None, None, None, None, f"does not fit: {need.largest}")
    if questions is not None and questions < asked:
        return Point(None, None, None, 0, f"questions: a step takes {asked:,}, there are {questions:,}")
    spent = seconds(shape, work, machines.of(machines.cards - idle))
    an_hour = asked / work.iterations / spent.step * 3600
    first = best.setdefault(mode, an_hour / machines.cards)
    updates = updates_of(recipe, questions, asked, work.iterations)
    if mode == "grows" and (steps := int(recipe.grpo.get("max_steps", -1))) > 0:
        updates = max(1, round(steps * a_step / asked))  # as many questions in all
    hours = None if updates is None else updates * spent.step / 3600
    limit = _limit(spent, idle, asked, updates, mode)
    if limit.startswith(WORDS["rollout_decode"]):
        slowest = max(zip(token_seconds(shape, work, machines), TOKEN_WORDS, strict=True))[1]
        limit = f"{limit}: {slowest}"
    return Point(hours, an_hour, an_hour / machines.cards / first, updates, limit)


def _limit(spent: Seconds, idle: int, asked: int, updates: int | None, mode: str) -> str:
    if idle:
        return f"{asked:,} questions a step: {idle:,} cards idle"
    if mode == "grows" and updates is not None and updates < FEW_UPDATES:
        return f"amount of questions: {updates} updates"
    name = spent.longest
    return f"{WORDS[name]}, {getattr(spent, name) / spent.step:.0%}"
