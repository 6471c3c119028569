"""From 1 to 1,024 cards: which limit is named, and what hours and efficiency come to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from avst.config import load_recipe
from avst.models.loading import sketch_of
from avst.plan.cards import CARDS, Card, parse_machines
from avst.plan.limits import table
from avst.plan.memory import memory
from avst.plan.published import config
from avst.plan.seconds import seconds
from avst.plan.shape import Shape, shape_of
from avst.plan.tokens import PromptShape
from avst.plan.work import Work, updates_of, work_of

PROMPT = PromptShape(text=300, video=3360, audio=0, patches=13440, frame_patches=336, mel=0, seconds=40.0)


@pytest.fixture(scope="module")
def shape() -> Shape:
    return shape_of(sketch_of(config("vl", "3b"), freeze=("vision", "connector")))


@pytest.fixture
def recipe(tmp_path: Path):
    (tmp_path / "r.yaml").write_text(
        "model: {path: Qwen/Qwen2.5-VL-3B-Instruct}\n"
        "grpo: {num_generations: 8, per_device_train_batch_size: 8, max_completion_length: 512, beta: 0.04, "
        "gradient_accumulation_steps: 4, num_train_epochs: 1}\n"
    )
    return load_recipe(tmp_path / "r.yaml")


def work(recipe, shape: Shape, engine: str = "zero2") -> Work:
    return work_of(recipe, shape.itemsize, PROMPT, engine=engine)  # type: ignore[arg-type]


def test_the_same_batch_goes_round_until_cards_stand_idle(recipe, shape: Shape) -> None:
    """Four cards of four prompts: 16 questions a step. Sixteen cards have one each, the rest nothing to do."""
    rows = {row.cards: row for row in table(recipe, shape, work(recipe, shape), 3200, parse_machines("4xH200", CARDS))}
    assert {row.same.updates for row in rows.values() if row.same.updates is not None} == {200}
    assert "idle" not in rows[16].same.limit
    assert rows[32].same.limit == "16 questions a step: 16 cards idle"
    assert rows[32].same.hours == pytest.approx(rows[16].same.hours)
    assert rows[32].same.efficiency == pytest.approx(rows[16].same.efficiency / 2)
    assert rows[1].same.efficiency == 1.0
    one = seconds(shape, replace(work(recipe, shape), micro_batches=16), parse_machines("H200", CARDS))
    assert rows[1].same.hours == pytest.approx(200 * one.step / 3600)


def test_hosts_whose_cards_are_no_power_of_two(recipe, shape: Shape) -> None:
    """A row of eight cards is reckoned for eight, though they stand on two hosts of six."""
    rows = {row.cards: row for row in table(recipe, shape, work(recipe, shape), 3200, parse_machines("6xH200", CARDS))}
    machines = parse_machines("6xH200", CARDS).of(8)
    step = seconds(shape, work(recipe, shape), machines).step
    assert rows[8].hosts == 2
    assert rows[8].grows.questions_an_hour == pytest.approx(8 * 4 / step * 3600)
    assert rows[8].grows.updates == 3200 // (8 * 4)


@pytest.mark.parametrize(
    ("prompts", "accumulated", "cards", "most"),
    [(1, 4, 8, (1, 2)), (1, 2, 4, (1, 2)), (2, 3, 4, (2, 3)), (4, 3, 8, (3, 2))],
    ids=["12 on 8", "6 on 4", "18 on 4", "36 on 8"],
)
def test_the_card_with_most_questions_is_waited_for(
    recipe, shape: Shape, prompts: int, accumulated: int, cards: int, most: tuple[int, int]
) -> None:
    """Three cards' batch on other numbers of cards: what one has more than others is computed, not only counted.

    most: prompts a micro-batch and micro-batches of the card that has most.
    """
    asked = replace(work(recipe, shape), prompts=prompts, micro_batches=accumulated)
    rows = {row.cards: row for row in table(recipe, shape, asked, 3200, parse_machines("3xH200", CARDS))}
    slowest = replace(asked, prompts=most[0], micro_batches=most[1])
    step = seconds(shape, slowest, parse_machines("3xH200", CARDS).of(cards)).step
    assert rows[cards].same.questions_an_hour == pytest.approx(3 * prompts * accumulated / step * 3600)


def test_a_growing_batch_runs_out_of_questions(recipe, shape: Shape) -> None:
    rows = {row.cards: row for row in table(recipe, shape, work(recipe, shape), 3200, parse_machines("4xH200", CARDS))}
    assert rows[4].grows.updates == 200
    assert rows[8].grows.updates == 100
    assert not rows[8].grows.limit.startswith("amount")
    assert rows[16].grows.limit == "amount of questions: 50 updates"
    assert rows[1024].grows.limit == "questions: a step takes 4,096, there are 3,200"
    assert rows[1024].grows.hours is None


def test_what_does_not_fit_is_named(recipe, shape: Shape) -> None:
    small = {"small": Card(memory_gib=24, tflops=100, bandwidth_gb_s=1000)}
    rows = table(recipe, shape, work(recipe, shape), 3200, parse_machines("4xsmall", small))
    room = 24 * 2**30
    assert [row.same.limit.startswith("does not fit") for row in rows] == [row.memory > room for row in rows]
    assert rows[0].same.limit == "does not fit: optimizer"  # 12 bytes a parameter; ZeRO-2 shares them among cards
    assert rows[0].memory > rows[3].memory > rows[10].memory
    alone = replace(work(recipe, shape), engine="none")
    assert memory(shape, alone).largest == "optimizer"


def test_slow_networks_and_few_cores_become_the_limit(recipe, shape: Shape) -> None:
    slow = parse_machines("4xH200", CARDS, network_gb_s=0.1)
    rows = {row.cards: row for row in table(recipe, shape, work(recipe, shape), 10**6, slow)}
    assert rows[8].grows.limit.startswith("communication")
    assert not rows[4].grows.limit.startswith("communication")
    one_core = parse_machines("8xH200", CARDS, cores=1)
    long_clips = replace(work(recipe, shape), prompt=replace(PROMPT, seconds=3600.0))
    rows = {row.cards: row for row in table(recipe, shape, long_clips, 10**6, one_core)}
    assert rows[8].grows.limit.startswith("decoding clips")


def test_updates_of_a_run(recipe) -> None:
    assert updates_of(recipe, 3205, 16, 1) == 200  # five questions are left out
    assert updates_of(recipe, 3205, 16, 2) == 400
    assert updates_of(recipe, None, 16, 1) is None
    recipe = replace(recipe, grpo={**recipe.grpo, "max_steps": 7})
    assert updates_of(recipe, None, 16, 1) == 7
