"""Groups with nothing to learn are left out of forward and backward, and the weights are the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from avst.grpo_losses import LOSS_TYPES
from avst.models.loading import lora_config
from avst.rollout_options import RolloutOptions
from avst.trainer import GRPOTrainer
from tests.grpo_world import QUESTIONS, clip_rows, flat_for, given_answers, logged, make_trainer, micro_batches, weights
from tests.tiny_world import load_grouped

EVERY, SKIP = RolloutOptions(skip_flat_groups=False), RolloutOptions()
ADAM: dict[str, Any] = {"optim": "adamw_torch", "weight_decay": 0.1, "adam_epsilon": 1e-3, "learning_rate": 0.01}


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
        torch.testing.assert_close(value, theirs[name], rtol=1e-10, atol=1e-12, msg=name)


@pytest.mark.parametrize("loss_type", sorted(LOSS_TYPES))
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
        {"num_iterations": 2, "max_steps": 4, "loss_type": "dapo"},
        {"off_policy_mask_threshold": 0.1, "num_iterations": 2, "max_steps": 4, "delta": 1.5},
        {"importance_sampling_level": "sequence", "num_iterations": 2, "max_steps": 4},
        {"scale_rewards": "none"},
        {"scale_rewards": "batch"},
        {"multi_objective_aggregation": "normalize_then_sum"},
        {"mask_truncated_completions": True, "loss_type": "dapo"},
        {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": False}},
        {"freeze": ("language",), "silent": ()},
        {"freeze": ("vision", "connector")},
    ],
    ids=lambda more: next(iter(more)),
)
def test_with_other_options(tiny_folders: dict[str, Path], tmp_path: Path, more: dict[str, Any]) -> None:
    folder = tiny_folders["qwen2_5_vl"]
    plain, fast = (run(folder, tmp_path / str(i), o, (1, 3), **more) for i, o in enumerate((EVERY, SKIP)))
    same_weights(fast, plain)
    if "multi_objective_aggregation" not in more:  # which takes off the batch's mean: seldom exactly 0
        assert logged(fast, "flat_groups/skipped")[0] == 0.5


def test_with_adapters(tiny_folders: dict[str, Path], tmp_path: Path) -> None:
    """Adapters in the vision tower too, which a blank does not reach."""
    folder = tiny_folders["qwen2_5_vl"]
    runs = []
    for i, options in enumerate((EVERY, SKIP)):
        torch.manual_seed(0)
        model = load_grouped(folder)
        adapters = lora_config(model, r=4, target_modules=("q_proj", "qkv"))
        runs.append(run(folder, tmp_path / str(i), options, (1, 2, 3), model=model, peft_config=adapters, max_steps=4))
    plain, fast = runs
    assert any("visual" in name and "lora_B" in name and value.any() for name, value in weights(fast).items())
    same_weights(fast, plain)
    assert logged(fast, "flat_groups/skipped") == [0.5, 1.0, 0.5, 1.0]


def test_a_row_of_flat_groups_and_one_that_failed(tiny_folders: dict[str, Path], tmp_path: Path) -> None:
    """Of a micro-batch of four questions one could not be read and two are flat: the fourth weighs no more for it."""
    folder = tiny_folders["qwen2_5_omni"]
    runs = []
    more: dict[str, Any] = {"per_device_train_batch_size": 12, "loss_type": "grpo", "max_steps": 3} | ADAM
    for i, options in enumerate((EVERY, SKIP)):
        rows = clip_rows(folder, skipped=(1,), silent=(0,))
        trainer = make_trainer(
            folder, tmp_path / str(i), rows, rewards=[flat_for(2, 3)], rollout_options=options, **more
        )
        trainer.train()
        runs.append(trainer)
    same_weights(*runs)
    assert logged(runs[1], "flat_groups/skipped") == pytest.approx([2 / 3] * 3)


def test_a_step_without_anything_to_learn(tiny_folders: dict[str, Path], tmp_path: Path) -> None:
    """The optimizer moves all the same, by what it remembers and by weight decay, towers included."""
    folder = tiny_folders["qwen2_5_omni"]
    plain, fast = (
        run(folder, tmp_path / str(i), options, (2, 3), silent=()) for i, options in enumerate((EVERY, SKIP))
    )
    same_weights(fast, plain)
    assert logged(fast, "flat_groups/skipped") == [0.0, 1.0]
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


def test_the_backward_is_saved_too(tiny_folders: dict[str, Path], tmp_path: Path) -> None:
    """Tokens whose gradient leaves the language model's first layer; frames that the tower sees."""
    folder = tiny_folders["qwen2_5_omni"]
    counts = {}
    for name, options in (("every", EVERY), ("skip", SKIP)):
        trainer = make_trainer(folder, tmp_path, clip_rows(folder), rewards=[flat_for(0, 1)], rollout_options=options)
        (micro,) = micro_batches(trainer, [clip_rows(folder, 3)])
        inner = trainer.model.model
        back: list[int] = []
        seen: list[int] = []
        inner.language_model.layers[0].register_full_backward_hook(
            lambda module, given, got, back=back: back.append(got[0].shape[1])
        )
        inner.visual.register_forward_pre_hook(lambda module, args, seen=seen: seen.append(len(args[0])))
        trainer.compute_loss(trainer.model, micro).backward()
        counts[name] = (sum(back), sum(seen))
        assert micro.idle == frozenset()  # the third question's clip runs both towers
    sizes = [int(row.input_ids.numel()) for row in clip_rows(folder, 3)]
    answers = [sum(map(len, given_answers(question))) for question in QUESTIONS[:3]]
    assert counts["every"][0] == sum(sizes) + sum(answers)
    assert counts["skip"][0] == sizes[2] + answers[2]
    assert counts["skip"][1] < counts["every"][1] / 2


@pytest.mark.parametrize("more", [{"beta": 0.04}, {"top_entropy_quantile": 0.5}, {"loss_type": "bnpo"}], ids=str)
def test_groups_that_count_otherwise_stay(tiny_folders: dict[str, Path], tmp_path: Path, more: dict[str, Any]) -> None:
    """KL moves the weights whatever the rewards; quantiles and bnpo look at all tokens."""
    folder = tiny_folders["qwen2_5_vl"]
    trainer = make_trainer(folder, tmp_path, clip_rows(folder), rewards=[flat_for(0)], **more)
    first, _ = micro_batches(trainer, [[row] for row in clip_rows(folder, 2)])
    assert not first.blank
    assert [group.prompt.question.id for group in first.groups] == [QUESTIONS[0].id]
