"""avst.trainer.GRPOTrainer by itself: how a step may be cut, what is reused, what is refused."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from avst.data import Skipped
from avst.errors import AvstError
from avst.grpo import no_spread
from avst.plugins import RewardSpec
from avst.rollout_options import RolloutOptions
from avst.trainer import GRPOTrainer
from avst.types import Group, Prompt
from tests.grpo_world import (
    QUESTIONS,
    G,
    clip_rows,
    given_answers,
    logged,
    make_trainer,
    micro_batches,
    perturb,
    sevenths,
    weights,
)
from tests.tiny_world import make_builder, make_question


def totals_of(questions: Sequence[Any] = QUESTIONS) -> torch.Tensor:
    return torch.tensor([sevenths(None, None, given_answers(q)) for q in questions], dtype=torch.float64)


# ---- how a step is cut -----------------------------------------------------------------------------------------------

CUTS = {"1 x 4": (1, 4), "2 x 2": (2, 2), "4 x 1": (4, 1)}


@pytest.mark.parametrize("skipped", [(), (2,)], ids=["", "one skipped"])
@pytest.mark.parametrize("loss_type", ["dapo", "grpo", "dr_grpo", "cispo"])
def test_accumulation_changes_nothing(
    tiny_folders: dict[str, Path], tmp_path: Path, loss_type: str, skipped: tuple[int, ...]
) -> None:
    """Four prompts as 4 micro-batches of one, 2 of two, 1 of four: the same weights after two steps."""
    folder = tiny_folders["qwen2_5_omni"]
    results = []
    for size, accumulation in CUTS.values():
        trainer = make_trainer(
            folder,
            tmp_path / str(size),
            clip_rows(folder, skipped=skipped),
            loss_type=loss_type,
            beta=0.04,
            per_device_train_batch_size=size * G,
            gradient_accumulation_steps=accumulation,
            max_steps=2,
            max_grad_norm=0.5,
        )
        before = weights(trainer)
        trainer.train()
        results.append(weights(trainer))
    for name, value in results[0].items():
        for other in results[1:]:
            torch.testing.assert_close(other[name], value, rtol=1e-8, atol=1e-10, msg=name)
    assert max((results[0][name] - before[name]).abs().max() for name in before) > 1e-4


def test_a_group_that_was_lost_weighs_nothing(tiny_folders: dict[str, Path], tmp_path: Path) -> None:
    """loss_type grpo, by hand: the mean over the four completions asked for is half the mean over the two there are."""
    folder = tiny_folders["qwen2_5_vl"]
    rows = clip_rows(folder, 2)
    options = {"loss_type": "grpo", "beta": 0.04, "per_device_train_batch_size": 2 * G}
    losses = []
    for row in (rows[1], Skipped("x", "a test")):
        trainer = make_trainer(folder, tmp_path, rows, **options)
        perturb(trainer.model)
        (micro,) = micro_batches(trainer, [[rows[0], row]])
        losses.append(trainer.compute_loss(trainer.model, micro))
    alone = make_trainer(folder, tmp_path, rows, **{**options, "per_device_train_batch_size": G})
    perturb(alone.model)
    first, second = (alone.compute_loss(alone.model, micro_batches(alone, [[row]])[0]) for row in rows)
    torch.testing.assert_close(losses[0], (first + second) / 2)
    torch.testing.assert_close(losses[1], first / 2)


def test_a_micro_batch_that_lost_all_weighs_nothing(tiny_folders: dict[str, Path], tmp_path: Path) -> None:
    """Its forward runs (other processes wait for it), its gradient is exactly 0, and it shows in no figure but one."""
    folder = tiny_folders["qwen2_5_omni"]
    rows = [Skipped("a", "gone"), *clip_rows(folder, 1)]
    trainer = make_trainer(folder, tmp_path, rows, beta=0.04, gradient_accumulation_steps=2)
    perturb(trainer.model)
    lost, kept = micro_batches(trainer, [[row] for row in rows])
    loss = trainer.compute_loss(trainer.model, lost)
    loss.backward()
    assert float(loss) == 0
    assert all(p.grad is None or not p.grad.any() for p in trainer.model.parameters())
    figures = trainer.meter.merged([trainer.meter])
    assert figures["samples/skipped"] == 1
    assert "entropy" not in figures
    assert "kl" not in figures
    alone = make_trainer(folder, tmp_path, rows, beta=0.04)
    perturb(alone.model)
    wanted = alone.compute_loss(alone.model, micro_batches(alone, [rows[1:]])[0])
    torch.testing.assert_close(trainer.compute_loss(trainer.model, kept), wanted)  # dapo: by the step's tokens


# ---- advantages ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", ["group", "batch", "none", True, False])
def test_advantages(tiny_folders: dict[str, Path], tmp_path: Path, scale: str | bool) -> None:
    """By hand; with "batch" over the whole step, not over a micro-batch."""
    folder = tiny_folders["qwen2_5_vl"]
    every = RolloutOptions(skip_flat_groups=False)
    trainer = make_trainer(folder, tmp_path, clip_rows(folder), scale_rewards=scale, rollout_options=every)
    micros = micro_batches(trainer, [[row] for row in clip_rows(folder)])
    totals = totals_of()
    centred = totals - totals.mean(1, keepdim=True)
    spread = {"group": totals.std(1, keepdim=True), "batch": totals.std(), "none": None}[
        scale if isinstance(scale, str) else ("group" if scale else "none")
    ]
    wanted = centred if spread is None else centred / (spread + 1e-4)
    wanted[totals.std(1) == 0] = 0
    got = torch.tensor([group.advantages for micro in micros for group in micro.groups], dtype=torch.float64)
    torch.testing.assert_close(got, wanted, rtol=1e-6, atol=1e-9)
    assert len(set(totals.std(1).tolist())) > 1


def test_rewards_normalised_one_by_one(tiny_folders: dict[str, Path], tmp_path: Path) -> None:
    """multi_objective_aggregation="normalize_then_sum", by hand: each reward in its group, the weighted sum over the
    batch. The second reward asks about spatial questions alone and abstains on one of their answers."""
    folder = tiny_folders["qwen2_5_vl"]
    builder = make_builder(folder)
    questions = [make_question(0), make_question(1, "Where?", "spatial")]

    def lengths(prompts: Any, completions: Any, completion_ids: Any, **columns: Any) -> list[float | None]:
        return [len(ids) / 8 for ids in completion_ids[:-1]] + [None]

    rewards = [RewardSpec("sevenths", sevenths, 1.0), RewardSpec("lengths", lengths, {"spatial": 0.5})]
    rows = [builder.build_text(question) for question in questions]
    options = {"multi_objective_aggregation": "normalize_then_sum", "per_device_train_batch_size": 2 * G}
    trainer = make_trainer(folder, tmp_path, rows, rewards=rewards, **options)
    (micro,) = micro_batches(trainer, [rows])
    first = totals_of(questions)
    parts = (first - first.mean(1, keepdim=True)) / (first.std(1, keepdim=True) + 1e-4)
    long = torch.tensor([len(ids) / 8 for ids in given_answers(questions[1])[:-1]], dtype=torch.float64)
    assert long.std() > 0
    parts[1, :-1] += 0.5 * (long - long.mean()) / (long.std() + 1e-4)
    wanted = (parts - parts.mean()) / (parts.std() + 1e-4)
    got = torch.tensor([group.advantages for group in micro.groups], dtype=torch.float64)
    torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-12)


def test_small_spreads_are_told_from_none() -> None:
    """Rewards of 1e6 that differ by 0.01 are the same number in float32."""
    rows = torch.tensor([[1e6, 1e6 + 0.01], [0.1 + 0.2, 0.1 + 0.2]], dtype=torch.float64)
    assert no_spread(rows).tolist() == [False, True]


def test_an_abstaining_reward_leaves_its_completion_out(tiny_folders: dict[str, Path], tmp_path: Path) -> None:
    folder = tiny_folders["qwen2_5_vl"]

    def some(prompts: Any, completions: Any, completion_ids: Any, **columns: Any) -> list[float | None]:
        return [None if i == 1 else float(i) for i in range(len(completion_ids))]

    trainer = make_trainer(folder, tmp_path, clip_rows(folder), rewards=[RewardSpec("some", some, 1.0)])
    (micro,) = micro_batches(trainer, [clip_rows(folder, 1)])
    assert all(math.isfinite(a) for a in micro.groups[0].advantages)
    assert micro.groups[0].rewards[1] == {"some": None}
    figures = trainer.meter.merged([trainer.meter])
    assert figures["rewards/some/mean"] == 1.0  # (0 + 2) / 2


# ---- iterations and order --------------------------------------------------------------------------------------------


class Counting:
    """Rows as a data set that says which were asked for."""

    def __init__(self, rows: list[Any]) -> None:
        self.rows, self.asked = rows, []

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        self.asked.append(index)
        return self.rows[index]

    def __iter__(self) -> Any:
        raise AssertionError("a data set is asked row by row")


class Drawn(GRPOTrainer):
    """The trainer itself, with a count of what was sampled and the groups of every micro-batch that was learned."""

    def __init__(self, **arguments: Any) -> None:
        self.sampled: list[str] = []
        self.learned: list[list[list[int]]] = []
        super().__init__(**arguments)

    def _sample(self, model: Any, prompts: list[Prompt]) -> list[Group]:
        self.sampled += [prompt.question.id for prompt in prompts]
        return super()._sample(model, prompts)

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        self.learned += [group.completion_ids for group in inputs.groups]
        return super().compute_loss(model, inputs, *args, **kwargs)


def test_two_iterations_draw_and_decode_once(tiny_folders: dict[str, Path], tmp_path: Path) -> None:
    """Two steps of two prompts, each taken twice: answers and clips are those of the first time, and the ratio moves
    only the second time."""
    folder = tiny_folders["qwen2_5_omni"]
    rows = Counting(clip_rows(folder))
    trainer = make_trainer(
        folder,
        tmp_path,
        [1],
        trainer_class=Drawn,
        num_iterations=2,
        gradient_accumulation_steps=2,
        num_train_epochs=1,
        max_steps=-1,
        max_completion_length=6,
    )
    trainer.train_dataset = rows
    trainer.train()
    assert rows.asked == [0, 1, 2, 3]
    assert trainer.sampled == [q.id for q in QUESTIONS]
    assert trainer.state.global_step == 4
    assert trainer.learned[0:2] == trainer.learned[2:4]
    assert trainer.learned[4:6] == trainer.learned[6:8]
    assert trainer.learned[0] != trainer.learned[4]
    far = [max(a - 1, 1 - b) for a, b in zip(logged(trainer, "ratio/max"), logged(trainer, "ratio/min"), strict=True)]
    assert far[0] == far[2] == 0
    assert min(far[1], far[3]) > 1e-3


def test_epochs_are_shuffled_anew_and_alike_for_a_seed(tiny_folders: dict[str, Path], tmp_path: Path) -> None:
    folder = tiny_folders["qwen2_5_vl"]
    builder = make_builder(folder)
    rows = [builder.build_text(make_question(i)) for i in range(7)]
    orders = []
    for seed in (3, 3, 4):
        data = Counting(rows)
        options = {"num_train_epochs": 3, "max_steps": -1, "shuffle_dataset": True, "data_seed": seed}
        trainer = make_trainer(folder, tmp_path, [1], per_device_train_batch_size=2 * G, **options)
        trainer.train_dataset = data
        trainer.train()
        assert trainer.state.global_step == 9
        epochs = [data.asked[i : i + 6] for i in range(0, 18, 6)]
        assert len(data.asked) == 18
        assert all(len(set(epoch)) == 6 for epoch in epochs)
        assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
        orders.append(epochs)
    assert orders[0] == orders[1] != orders[2]


# ---- what is refused -------------------------------------------------------------------------------------------------


def test_a_batch_that_cuts_a_group_is_refused(tiny_folders: dict[str, Path], tmp_path: Path) -> None:
    folder = tiny_folders["qwen2_5_vl"]
    with pytest.raises(AvstError, match=r"per_device_train_batch_size 4 .* num_generations 3: a group would be cut"):
        make_trainer(folder, tmp_path, clip_rows(folder), per_device_train_batch_size=4, gradient_accumulation_steps=3)


def test_fewer_questions_than_a_step_takes_are_refused(tiny_folders: dict[str, Path], tmp_path: Path) -> None:
    folder = tiny_folders["qwen2_5_vl"]
    trainer = make_trainer(folder, tmp_path, clip_rows(folder, 3), gradient_accumulation_steps=4)
    with pytest.raises(AvstError, match=r"takes 4 questions .* the training set has 3"):
        trainer.train()
