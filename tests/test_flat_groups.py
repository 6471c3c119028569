"""Groups with nothing to learn are left out of forward and backward, and the weights are the same; other questions may
take their place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from avst.data import Skipped
from avst.group_rewards import without_spread
from avst.resampling import Resampler
from avst.rollout_options import RolloutOptions
from avst.step import Meter, Step
from avst.trainer import GRPOTrainer
from avst.types import Group, Prompt
from tests.grpo_world import QUESTIONS, clip_rows, flat_for, logged, make_trainer, micro_batches, weights

EVERY, SKIP = RolloutOptions(skip_flat_groups=False), RolloutOptions()
ADAM = {"optim": "adamw_torch", "weight_decay": 0.1, "adam_epsilon": 1e-3, "learning_rate": 0.01}


def run(folder: Path, out: Path, options: RolloutOptions, flat: tuple[int, ...], **more: Any) -> GRPOTrainer:
    """Two steps over two of four questions each, by AdamW with weight decay; the third (text alone) makes a group
    without pictures."""
    silent = more.pop("silent", (2,))
    trainer = make_trainer(
        folder,
        out,
        clip_rows(folder, silent=silent),
        rewards=[flat_for(*flat)],
        rollout_options=options,
        **({"gradient_accumulation_steps": 2, "max_steps": 2} | ADAM | more),
    )
    trainer.train()
    return trainer


def same_weights(one: GRPOTrainer, other: GRPOTrainer) -> None:
    theirs = weights(other)
    for name, value in weights(one).items():
        # Omni's marks of begin and end of audio are read by nobody: no gradient ever, so no decay in the plain way
        if "audio_bos_eos_token" not in name:
            torch.testing.assert_close(value, theirs[name], rtol=1e-10, atol=1e-12, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("loss_type", ["grpo", "dapo", "dr_grpo", "bnpo", "cispo"])
@pytest.mark.parametrize("kind", ["qwen2_5_vl", "qwen2_5_omni"])
def test_the_weights_are_the_same(tiny_folders: dict[str, Path], tmp_path: Path, kind: str, loss_type: str) -> None:
    """In the first step question 1 is flat, and in the second question 3, beside text alone: micro-batches of their
    own."""
    plain, fast = (
        run(tiny_folders[kind], tmp_path / str(i), options, (1, 3), loss_type=loss_type)
        for i, options in enumerate((EVERY, SKIP))
    )
    same_weights(fast, plain)
    skipped = 0.0 if loss_type == "bnpo" else 0.5
    assert logged(fast, "flat_groups/skipped") == [skipped, skipped]
    assert logged(plain, "flat_groups/skipped") == [0.0, 0.0]
    assert logged(fast, "grad_norm") == pytest.approx(logged(plain, "grad_norm"), rel=1e-9)
    assert logged(fast, "loss") == pytest.approx(logged(plain, "loss"), abs=1e-9)


@pytest.mark.parametrize(
    "more",
    [
        {"per_device_train_batch_size": 6, "gradient_accumulation_steps": 1},
        {"num_iterations": 2, "max_steps": 4},
        {"importance_sampling_level": "sequence"},
        {"scale_rewards": "batch"},
        {"multi_objective_aggregation": "normalize_then_sum"},
        {"mask_truncated_completions": True},
    ],
    ids=lambda more: next(iter(more)),
)
def test_with_other_options(tiny_folders: dict[str, Path], tmp_path: Path, more: dict[str, Any]) -> None:
    folder = tiny_folders["qwen2_5_vl"]
    plain, fast = (run(folder, tmp_path / str(i), o, (1, 3), **more) for i, o in enumerate((EVERY, SKIP)))
    same_weights(fast, plain)


def test_a_step_without_anything_to_learn(tiny_folders: dict[str, Path], tmp_path: Path) -> None:
    """The optimizer moves all the same, by what it remembers and by weight decay, towers included."""
    folder = tiny_folders["qwen2_5_omni"]
    plain, fast = (
        run(folder, tmp_path / str(i), options, (2, 3), silent=()) for i, options in enumerate((EVERY, SKIP))
    )
    same_weights(fast, plain)
    assert logged(fast, "flat_groups/skipped") == [0.5, 1.0]
    assert logged(fast, "grad_norm")[1] == 0
    before = run(folder, tmp_path / "before", SKIP, (2, 3), silent=(), max_steps=1)
    moved = [name for name, value in weights(before).items() if not torch.equal(value, weights(fast)[name])]
    assert any("visual" in name for name in moved)
    assert any("audio_tower" in name for name in moved)


def test_flat_groups_are_not_computed(tiny_folders: dict[str, Path], tmp_path: Path) -> None:
    """Tokens that enter the language model: those of the group with spread, and of a blank in place of the other."""
    folder = tiny_folders["qwen2_5_vl"]
    counts = {}
    for name, options in (("every", EVERY), ("skip", SKIP)):
        trainer = make_trainer(folder, tmp_path, clip_rows(folder), rewards=[flat_for(0)], rollout_options=options)
        rows = clip_rows(folder)[::2]
        micros = micro_batches(trainer, [[row] for row in rows])
        tokens: list[int] = []
        trainer.model.model.language_model.register_forward_pre_hook(
            lambda module, args, kwargs, tokens=tokens: tokens.append(kwargs["inputs_embeds"].shape[1]),
            with_kwargs=True,
        )
        losses = [trainer.compute_loss(trainer.model, micro) for micro in micros]
        counts[name] = tokens
        assert losses[0].item() == 0
    sizes = [row.input_ids.numel() for row in rows]
    assert counts["every"][1] == counts["skip"][1] > sizes[1]
    assert counts["every"][0] > sizes[0]
    blank = trainer._blank()
    assert counts["skip"][0] == blank.prompt.input_ids.numel() + 1


@pytest.mark.parametrize("more", [{"beta": 0.04}, {"top_entropy_quantile": 0.5}, {"loss_type": "bnpo"}], ids=str)
def test_groups_that_count_otherwise_stay(tiny_folders: dict[str, Path], tmp_path: Path, more: dict[str, Any]) -> None:
    """KL moves the weights whatever the rewards; quantiles and bnpo look at all tokens."""
    folder = tiny_folders["qwen2_5_vl"]
    trainer = make_trainer(folder, tmp_path, clip_rows(folder), rewards=[flat_for(0)], **more)
    first, _ = micro_batches(trainer, [[row] for row in clip_rows(folder, 2)])
    assert not first.blank
    assert [group.prompt.question.id for group in first.groups] == [QUESTIONS[0].id]


# ---- other questions in their place ----------------------------------------------------------------------------------


def test_draws_depend_on_seed_step_and_round(tiny_folders: dict[str, Path]) -> None:
    rows = list(range(10))
    one = Resampler(rows, 2, seed=3, process=0, processes=2)
    assert one.draw(5, 0, 4) == Resampler(rows, 9, 3, 0, 2).draw(5, 0, 4)
    assert len({tuple(one.draw(step, number, 5)) for step in (5, 6) for number in (0, 1)}) == 4
    other = Resampler(rows, 2, seed=3, process=1, processes=2)
    assert sorted(one.draw(5, 0, 5) + other.draw(5, 0, 5)) == rows  # processes never draw the same


def group_of(prompt: Prompt, totals: list[float]) -> Group:
    return Group(prompt, [[1]] * len(totals), [[0.0]] * len(totals), [False] * len(totals), totals=totals)


def test_rounds_are_bounded_and_only_flat_groups_go(tiny_folders: dict[str, Path]) -> None:
    """Of a set's questions, 0 and 1 are in the step and flat, 2 is always flat, 3 never; the fifth is a bad clip."""
    prompts = clip_rows(tiny_folders["qwen2_5_vl"])
    rows = [*prompts, Skipped("bad", "a test")]
    asked: list[list[str]] = []

    def roll_out(new: Any) -> list[Group]:
        asked.append([prompt.question.id for prompt in new])
        return [group_of(p, [0.0, 1.0] if p.question.id == QUESTIONS[3].id else [1.0, 1.0]) for p in new]

    spread = group_of(Prompt(QUESTIONS[0], None, {}, prompts[0].space), [0.0, 2.0])
    for rounds in (0, 1, 7):
        asked.clear()
        step, meter = Step(), Meter()
        groups = [group_of(prompts[0], [1.0, 1.0]), spread, group_of(prompts[1], [2.0, 2.0])]
        found = Resampler(rows, rounds, 0, 0, 1).replace_flat(step, 11, groups, roll_out, meter)
        assert len(asked) == rounds or not any(without_spread(found))
        assert len(found) == 3
        assert found[1] is spread
        assert all(q not in {QUESTIONS[0].id, QUESTIONS[1].id} for round_ in asked for q in round_[:1] if rounds == 1)
        assert meter.totals["resample/asked"] == sum(map(len, asked))
        assert meter.totals["resample/filled"] == sum(g.prompt.question.id == QUESTIONS[3].id for g in found)
        if rounds == 7:  # enough to draw question 3, and the bad clip, whatever the seed
            assert meter.totals["resample/filled"] == 1
            assert step.skipped


def test_a_run_with_replaced_groups(tiny_folders: dict[str, Path], tmp_path: Path) -> None:
    """The first step's two questions are flat; two others are drawn, scored, logged and learned from, each time."""
    folder = tiny_folders["qwen2_5_vl"]
    written: list[list[dict[str, Any]]] = []
    options = RolloutOptions(resample_rounds=4)
    runs = []
    for i in range(2):
        written.append([])
        trainer = make_trainer(
            folder,
            tmp_path / str(i),
            clip_rows(folder),
            rewards=[flat_for(0, 1)],
            rollout_options=options,
            gradient_accumulation_steps=2,
            completion_sink=lambda step, rows: written[-1].extend(rows),
            log_completions=True,
        )
        trainer.train()
        runs.append(trainer)
    assert {row["question_id"] for row in written[0]} == {QUESTIONS[2].id, QUESTIONS[3].id}
    assert logged(runs[0], "resample/filled") == [2]
    assert logged(runs[0], "frac_reward_zero_std") == [0.0]
    assert written[0] == written[1]
    same_weights(*runs)
    plain = make_trainer(
        folder, tmp_path / "p", clip_rows(folder), rewards=[flat_for(0, 1)], gradient_accumulation_steps=2
    )
    plain.train()
    assert logged(plain, "frac_reward_zero_std") == [1.0]
    assert any(not torch.equal(value, weights(plain)[name]) for name, value in weights(runs[0]).items())
