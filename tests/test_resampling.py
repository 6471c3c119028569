"""Other questions in place of flat groups: which, how many, and that a run with them is a run."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from trl import GRPOConfig

from avst.data import Skipped, StepSampler
from avst.group_rewards import nothing_to_learn, without_spread
from avst.models.loading import lora_config
from avst.plugins import RewardSpec
from avst.resampling import other_rows, replace_flat
from avst.rollout_options import RolloutOptions
from avst.step import Meter
from avst.trainer import GRPOTrainer
from avst.types import Group, Prompt
from tests.grpo_world import QUESTIONS, Given, clip_rows, flat_for, given_answers, logged, make_trainer, weights
from tests.tiny_world import load_grouped


def test_no_question_is_asked_twice_in_a_step() -> None:
    """What all processes may ask is every row that is not in the step, each once; (seed, step) give the order."""
    in_step = [3, 11, 7]
    parts = [other_rows(20, in_step, 5, 9, process, 3) for process in range(3)]
    assert sorted(row for part in parts for row in part) == sorted(set(range(20)) - set(in_step))
    assert parts[0] == other_rows(20, in_step, 5, 9, 0, 3)
    orders = {tuple(other_rows(20, in_step, seed, step)) for seed in range(3) for step in range(20)}
    assert len(orders) == 60
    assert other_rows(3, [0, 1, 2], 0, 0) == []


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("num_iterations", [1, 3])
def test_the_sampler_knows_the_rows_of_every_step(num_iterations: int, shuffle: bool) -> None:
    """11 rows in steps of 4, over three epochs."""
    sampler = StepSampler(11, 4, num_iterations, shuffle, seed=2)
    step = 0
    for epoch in range(3):
        sampler.epoch = epoch
        drawn = [row for row, _ in sampler]
        for start in range(0, len(drawn), 4):
            assert sampler.rows_at(step) == drawn[start : start + 4]
            step += 1


# ---- rounds ----------------------------------------------------------------------------------------------------------


def group_of(prompt: Prompt, totals: list[float]) -> Group:
    return Group(prompt, [[1, 2]] * len(totals), [[0.0]] * len(totals), [False] * len(totals), totals=totals)


@pytest.fixture
def prompts(tiny_folders: dict[str, Path]) -> list[Prompt]:
    return clip_rows(tiny_folders["qwen2_5_vl"], silent=range(4))


@pytest.mark.parametrize(
    ("rounds", "made", "asked", "kept"),
    [
        (0, 0, [], ["flat", "spread", "flat"]),
        (1, 2, [[1]], ["flat", "spread", "flat"]),
        (2, 4, [[1], [2, 3]], ["3", "spread", "flat"]),
        (3, 5, [[1], [2, 3], [0]], ["3", "spread", "0"]),
        (9, 5, [[1], [2, 3], [0]], ["3", "spread", "0"]),
    ],
)
def test_rounds_by_hand(prompts: list[Prompt], rounds: int, made: int, asked: list[list[int]], kept: list[str]) -> None:
    """Two of three groups are flat. Row by row there come a bad clip, two flat questions, one with spread for the first
    place, one for the other; behind these there is nothing to do, so the sixth is never made."""
    rows = [Skipped("bad", "a test"), *(prompts[i] for i in (1, 2, 3, 0)), prompts[1]]
    taken: list[Any] = []
    calls: list[list[int]] = []
    numbers = {question.id: number for number, question in enumerate(QUESTIONS)}

    def each() -> Iterator[Any]:
        for row in rows:
            taken.append(row)
            yield row

    def roll_out(new: Sequence[Prompt]) -> list[Group]:
        calls.append([numbers[prompt.question.id] for prompt in new])
        return [group_of(prompt, [float(number in (0, 3)), 0.0]) for prompt, number in zip(new, calls[-1], strict=True)]

    names = {}
    start = [group_of(prompts[0], totals) for totals in ([1.0, 1.0], [0.0, 2.0], [3.0, 3.0])]
    for name, group in zip(("flat", "spread", "flat"), start, strict=True):
        names[id(group)] = name
    meter = Meter()
    found, skipped = replace_flat(start, rounds, each(), roll_out, without_spread, meter)
    assert calls == asked
    assert len(taken) == made
    assert [names.get(id(group), str(numbers[group.prompt.question.id])) for group in found] == kept
    assert skipped == rows[: min(made, 1)]
    count = sum(map(len, asked))
    assert meter.totals.get("resample/asked", 0) == count
    assert meter.totals.get("resample/filled", 0) == sum(name in "03" for name in kept)
    assert meter.totals.get("resample/dropped_tokens", 0) == 4 * count  # a group comes, a group goes


def test_a_group_is_flat_where_its_rewards_leave_nothing(prompts: list[Prompt]) -> None:
    """Totals of 1 that are made of different parts teach something where each reward is normalised by itself."""
    one, two, mute = (
        group_of(prompts[0], [1.0, 1.0]),
        group_of(prompts[0], [1.0, 1.0]),
        group_of(prompts[0], [0.5, 0.5]),
    )
    one.rewards = [{"a": 1.0, "b": 0.0}, {"a": 0.0, "b": 1.0}]
    two.rewards = [{"a": 0.5, "b": 0.5}] * 2
    mute.rewards = [{"a": 0.5, "b": None, "c": 0.0}, {"a": 0.5, "b": None, "c": 1.0}]  # c has no weight
    specs = [RewardSpec(name, lambda **columns: [], weight) for name, weight in (("a", 1.0), ("b", 1.0), ("c", 0.0))]
    for group in (one, two):
        for rewards in group.rewards:
            rewards["c"] = None
    args = GRPOConfig(num_generations=2, per_device_train_batch_size=2, bf16=False, report_to="none", use_cpu=True)
    assert nothing_to_learn([one, two, mute], args, specs) == [True, True, True]
    args.multi_objective_aggregation = "normalize_then_sum"
    assert nothing_to_learn([one, two, mute], args, specs) == [False, True, True]
    assert nothing_to_learn([], args, specs) == []


# ---- runs ------------------------------------------------------------------------------------------------------------


class Asked(Given):
    """Notes the questions of each rollout: (step, question ids)."""

    def _sample(self, model: Any, prompts: list[Prompt]) -> list[Group]:
        self.asked = [*getattr(self, "asked", []), (self.state.global_step, [p.question.id for p in prompts])]
        return super()._sample(model, prompts)


@pytest.fixture
def make(tiny_folders: dict[str, Path], tmp_path: Path) -> Callable[..., GRPOTrainer]:
    """A run over two of four questions a step, of which 0 and 1 are flat, with four rounds."""
    folder = tiny_folders["qwen2_5_vl"]

    def made(name: str, **more: Any) -> GRPOTrainer:
        if more.pop("lora", False):
            model = load_grouped(folder)
            more |= {"model": model, "peft_config": lora_config(model, r=4)}
        options: dict[str, Any] = {
            "trainer_class": Asked,
            "rewards": [flat_for(0, 1)],
            "rollout_options": RolloutOptions(resample_rounds=4),
            "gradient_accumulation_steps": 2,
        }
        return make_trainer(folder, tmp_path / name, clip_rows(folder), **(options | more))

    return made


def same(one: GRPOTrainer, other: GRPOTrainer) -> bool:
    theirs = weights(other)
    return all(torch.equal(value, theirs[name]) for name, value in weights(one).items())


def test_a_run_with_replaced_groups(make: Callable[..., GRPOTrainer]) -> None:
    """The first step's two questions are flat; two others are drawn, scored, logged and learned from, each time. So the
    weights are those of a run that is asked the two others from the start."""
    written: list[dict[str, Any]] = []
    first = make("first", completion_sink=lambda step, rows: written.extend(rows), log_completions=True)
    first.train()
    assert {row["question_id"] for row in written} == {QUESTIONS[2].id, QUESTIONS[3].id}
    assert logged(first, "resample/asked") == logged(first, "resample/filled") == [2]
    assert logged(first, "frac_reward_zero_std") == [0.0]
    assert logged(first, "flat_groups/skipped") == [0.0]
    replaced = sum(len(ids) for question in QUESTIONS[:2] for ids in given_answers(question))
    used = sum(row["n_tokens"] for row in written)
    assert logged(first, "resample/dropped_tokens") == [replaced]
    assert logged(first, "completions/tokens") == [used]
    assert logged(first, "tokens_per_second")[0] == pytest.approx(
        (used + replaced) / logged(first, "seconds/rollout")[0]
    )
    assert logged(first, "seconds/resample")[0] > 0
    again = make("again")
    again.train()
    assert same(first, again)
    plain = make("plain", rollout_options=RolloutOptions())
    plain.train()
    assert logged(plain, "frac_reward_zero_std") == [1.0]
    assert not same(plain, first)
    rows: list[Any] = list(first.train_dataset)  # type: ignore[arg-type]  # make_trainer gives a list
    order = [row["question_id"] for row in written[:: first.num_generations]]
    direct = make("direct", rollout_options=RolloutOptions())
    direct.train_dataset = sorted(rows[2:], key=lambda row: order.index(row.question.id)) + rows[:2]
    direct.train()
    assert same(direct, first)


@pytest.mark.parametrize("more", [{"num_iterations": 2, "max_steps": 4}, {"lora": True, "max_steps": 2}], ids=str)
def test_with_other_options(make: Callable[..., GRPOTrainer], more: dict[str, Any]) -> None:
    """Questions 2 and 3, of the second step, are not flat, so nothing is drawn there; nor at a later iteration."""
    trainer = make("run", **more)
    trainer.train()
    (zero, _), (drawn_at, drawn), (second, _) = trainer.asked  # type: ignore[attr-defined]
    assert (zero, drawn_at, second) == (0, 0, trainer.args.num_iterations)
    assert sorted(drawn) == [QUESTIONS[2].id, QUESTIONS[3].id]
    assert sum(logged(trainer, "resample/filled")) == 2


def test_a_resumed_run_draws_the_same(make: Callable[..., GRPOTrainer], tmp_path: Path) -> None:
    """Every group is flat, one round a step: four steps in one go, and two and two."""
    saved = {"save_strategy": "steps", "save_steps": 2, "shuffle_dataset": True, "max_steps": 4}
    more = saved | {"rewards": [flat_for(0, 1, 2, 3)], "rollout_options": RolloutOptions(resample_rounds=1)}
    whole = make("whole", **more)
    whole.train()
    asked = whole.asked  # type: ignore[attr-defined]
    assert [step for step, _ in asked] == [0, 0, 1, 1, 2, 2, 3, 3]
    for (step, mine), (_, drawn) in zip(asked[::2], asked[1::2], strict=True):
        assert sorted(mine + drawn) == sorted(question.id for question in QUESTIONS)
        order = other_rows(len(QUESTIONS), whole.order.rows_at(step), whole.args.seed, step)
        assert drawn == [QUESTIONS[row].id for row in order]
    assert logged(whole, "resample/asked") == [2] * 4
    assert logged(whole, "resample/filled") == [0] * 4
    shutil.rmtree(tmp_path / "whole" / "checkpoint-4")
    rest = make("whole", **more)
    rest.train(resume_from_checkpoint=True)
    assert rest.asked == asked[4:]  # type: ignore[attr-defined]
