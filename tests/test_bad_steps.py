"""Numbers that are not finite move no weight: the run is the one that never had that step."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.utils import DistributedType

from avst.bad_steps import BadStepBounds, BadSteps, save_batch
from avst.errors import AvstError
from avst.trainer import GRPOTrainer
from tests.grpo_world import QUESTIONS, Given, clip_rows, given_answers, logged, make_trainer, weights
from tests.test_exact_resume import lines, same
from tests.test_sft import make_trainer as make_sft_trainer
from tests.test_sft import rows_of

NAN = math.nan
OPTIONS: dict[str, Any] = {
    "gradient_accumulation_steps": 2,
    "optim": "adamw_torch",
    "learning_rate": 0.01,
    "weight_decay": 0.1,
}


class Poisoned(Given):
    """The loss of chosen micro-batches is spoiled. at: (step, micro-batch) -> loss, counted from 1."""

    at: dict[tuple[int, int], Callable[[torch.Tensor], torch.Tensor]]
    spoiled = 0

    def _policy_loss(self, *args: Any) -> Any:
        result = super()._policy_loss(*args)
        self.calls = getattr(self, "calls", 0) + 1
        micro = (self.calls - 1) % self.args.gradient_accumulation_steps + 1
        if (spoil := self.at.get((self.state.global_step + 1, micro))) is not None:
            self.spoiled += 1
            result.loss = spoil(result.loss)
        return result


class WithoutGradient(torch.autograd.Function):
    """The loss itself, whose gradient is `value`."""

    @staticmethod
    def forward(ctx: Any, loss: torch.Tensor) -> torch.Tensor:
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return gradient * NAN


WAYS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "NaN": lambda loss: loss * NAN,
    "inf with a finite gradient": lambda loss: loss + math.inf,
    "a gradient alone": lambda loss: WithoutGradient.apply(loss),  # type: ignore[no-untyped-call]
}


def poisoned(folder: Path, out: Path, at: Any, rows: Any = None, **options: Any) -> Poisoned:
    rows = clip_rows(folder) if rows is None else rows
    trainer = make_trainer(folder, out, rows, trainer_class=Poisoned, **{**OPTIONS, **options})
    assert isinstance(trainer, Poisoned)
    trainer.at = at
    return trainer


@pytest.mark.parametrize("micro", [1, 2])
@pytest.mark.parametrize("way", WAYS)
def test_the_step_might_as_well_not_have_been(
    tiny_folders: dict[str, Path], tmp_path: Path, way: str, micro: int
) -> None:
    """Steps of rows 01, 23, 01, 23, the second of them spoiled, against a run of the rows 01, 01, 23."""
    folder = tiny_folders["qwen2_5_vl"]
    trainer = poisoned(folder, tmp_path / "a", {(2, micro): WAYS[way]}, max_steps=4)
    trainer.train()
    assert trainer.spoiled == 1
    rows = clip_rows(folder)
    other = poisoned(folder, tmp_path / "b", {}, rows=[*rows[:2], *rows], max_steps=3)
    other.train()
    assert same(weights(trainer), weights(other))
    assert same(trainer.optimizer.state_dict(), other.optimizer.state_dict())
    assert logged(trainer, "steps/skipped") == [1.0]
    assert logged(trainer, "grad_norm") == logged(other, "grad_norm")  # a step without an update has none
    assert all(math.isfinite(value) for line in trainer.state.log_history for value in line.values())


def test_what_is_kept_for_inspection(tiny_folders: dict[str, Path], tmp_path: Path, caplog: Any) -> None:
    trainer = poisoned(tiny_folders["qwen2_5_vl"], tmp_path, {(2, 2): WAYS["NaN"]}, max_steps=2)
    with caplog.at_level(logging.WARNING):
        trainer.train()
    place = tmp_path / "bad_steps" / "step-00002-rank0"
    assert f"step 2: the loss is not finite: no update is made; its batch is in {place.parent}" in caplog.text
    assert [path.name for path in place.parent.iterdir()] == [place.name]
    record = json.loads((place / "batch.json").read_text())
    assert record["step"] == 2
    assert record["not finite"][0] == "loss nan"
    assert any(words.startswith("gradient of model.") for words in record["not finite"])
    for micro, question in zip(record["micro_batches"], QUESTIONS[2:], strict=True):
        (group,) = micro
        assert group["question_id"] == question.id
        ids = given_answers(question)
        assert [answer["token_ids"] for answer in group["completions"]] == ids
        rewards = torch.tensor([sum(answer) % 7 / 6 for answer in ids], dtype=torch.float64)
        assert [answer["rewards"]["sevenths"] for answer in group["completions"]] == pytest.approx(rewards.tolist())
        wanted = (rewards - rewards.mean()) / (rewards.std() + 1e-4)
        assert [answer["advantage"] for answer in group["completions"]] == pytest.approx(wanted.tolist())


def test_log_probs_of_a_step_that_was_left_out_are_made_again(tiny_folders: dict[str, Path], tmp_path: Path) -> None:
    """The first of two iterations fails in the forward itself: the second is then the first update of its rollout."""
    folder = tiny_folders["qwen2_5_vl"]
    options: dict[str, Any] = {"gradient_accumulation_steps": 1, "logging_nan_inf_filter": False}
    trainer = poisoned(folder, tmp_path / "a", {}, num_iterations=2, max_steps=2, **options)
    calls: list[int] = []

    def spoil(module: Any, args: Any, kwargs: Any, output: Any) -> Any:
        calls.append(trainer.state.global_step)
        return {**output, "logps": output["logps"] * NAN} if len(calls) == 1 else output

    trainer.model.register_forward_hook(spoil, with_kwargs=True)
    trainer.train()
    assert calls == [0, 1]
    plain = poisoned(folder, tmp_path / "b", {}, max_steps=1, **options)
    plain.train()
    assert same(weights(trainer), weights(plain))
    record = json.loads((tmp_path / "a" / "bad_steps" / "step-00001-rank0" / "batch.json").read_text())
    assert record["not finite"][:2] == ["loss nan", "logps"]


@pytest.mark.parametrize(
    ("bad", "bounds", "said"),
    [
        ((1, 2, 3), BadStepBounds(3, 20), r"3 in a row \(bad_steps.in_a_row\), the last one step 3: the loss"),
        ((1, 3, 5), BadStepBounds(3, 3), r"3 in all \(bad_steps.in_all\), the last one step 5"),
        ((1, 2, 4, 5), BadStepBounds(3, 20), None),
    ],
)
def test_too_many_end_the_run(
    tiny_folders: dict[str, Path], tmp_path: Path, bad: tuple[int, ...], bounds: BadStepBounds, said: str | None
) -> None:
    at = {(step, 1): WAYS["NaN"] for step in bad}
    trainer = poisoned(tiny_folders["qwen2_5_vl"], tmp_path, at, max_steps=6, gradient_accumulation_steps=1)
    trainer.bounds = bounds
    if said is None:
        trainer.train()
        assert trainer.bad_steps.in_all == len(bad)
        assert sum(logged(trainer, "steps/skipped")) == len(bad)
        return
    with pytest.raises(AvstError, match=said) as error:
        trainer.train()
    assert "\n" not in str(error.value)
    assert trainer.state.global_step == bad[-1] - 1


def test_a_run_that_goes_on_counts_on(tiny_folders: dict[str, Path], tmp_path: Path) -> None:
    folder = tiny_folders["qwen2_5_vl"]
    saving = {"max_steps": 4, "save_strategy": "steps", "save_steps": 1, "logging_steps": 3, "beta": 0.1}
    at = {(step, 1): WAYS["NaN"] for step in (1, 2, 4)}
    whole = poisoned(folder, tmp_path / "a", at, **saving)
    whole.train()
    assert whole.bad_steps == BadSteps(in_a_row=1, in_all=3, untold=0)
    again = poisoned(folder, tmp_path / "b", at, **saving)
    again.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-2"))
    assert again.bad_steps == whole.bad_steps
    assert same(weights(again), weights(whole))
    assert same(again.optimizer.state_dict(), whole.optimizer.state_dict())
    assert lines(again) == lines(whole)
    ended = poisoned(folder, tmp_path / "c", {(3, 1): WAYS["NaN"]}, **saving)
    with pytest.raises(AvstError, match="3 in a row"):
        ended.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-2"))


def test_supervised_training_too(tiny_folders: dict[str, Path], tmp_path: Path) -> None:
    folder = tiny_folders["qwen2_5_vl"]
    trainer = make_sft_trainer(folder, tmp_path, rows_of(folder), 1, 1)
    before, real = weights(trainer), trainer.checked
    trainer.checked = lambda loss, **made_of: real(loss * NAN, **made_of)  # type: ignore[method-assign]
    trainer.bounds = BadStepBounds(in_a_row=2)
    with pytest.raises(AvstError, match="2 in a row"):
        trainer.train()
    assert same(weights(trainer), before)
    record = json.loads((tmp_path / "bad_steps" / "step-00001-rank0" / "batch.json").read_text())
    assert record["micro_batches"] == [[rows_of(folder)[0][0].question.id]]


def test_a_gradient_that_overflows_is_the_scalers_own_affair(tiny_folders: dict[str, Path], tmp_path: Path) -> None:
    trainer: GRPOTrainer = poisoned(tiny_folders["qwen2_5_vl"], tmp_path, {})
    weight = next(iter(trainer.model.parameters()))
    weight.grad = torch.full_like(weight, math.inf)
    trainer.accelerator.scaler = object()
    assert trainer._get_grad_norm(trainer.model) == math.inf
    assert weight.grad is not None
    assert trainer.bad_steps.in_all == 0
    trainer._wrong = ["loss nan"]
    assert trainer._get_grad_norm(trainer.model) is None
    assert weight.grad is None
    assert trainer.bad_steps.in_all == 1


def test_deepspeed_makes_its_update_in_backward_so_the_run_ends_before_it(
    tiny_folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = poisoned(tiny_folders["qwen2_5_vl"], tmp_path, {})
    monkeypatch.setattr(type(trainer.accelerator), "distributed_type", DistributedType.DEEPSPEED)
    trainer.checked(torch.tensor(1.0))
    with pytest.raises(AvstError, match="step 1: the loss is not finite; under DeepSpeed"):
        trainer.checked(torch.tensor(NAN))
    assert (tmp_path / "bad_steps" / "step-00001-rank0" / "batch.json").exists()


def test_a_batch_that_cannot_be_kept_ends_nothing(
    tiny_folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("avst.finite.save_batch", full)
    trainer = poisoned(tiny_folders["qwen2_5_vl"], tmp_path, {(1, 1): WAYS["NaN"]}, max_steps=2)
    with caplog.at_level(logging.WARNING):
        trainer.train()
    assert "the batch of step 1 cannot be kept: [Errno 28]" in caplog.text


def test_a_record_is_whole_or_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_batch(tmp_path, 7, 1, ["loss nan"], {"a": NAN})
    assert json.loads((tmp_path / "step-00007-rank1" / "batch.json").read_text())["a"] is None

    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("avst.bad_steps.write_atomically", full)
    with pytest.raises(OSError, match="No space left"):
        save_batch(tmp_path, 8, 1, ["loss nan"], {})
    assert [path.name for path in tmp_path.glob("step-*")] == ["step-00007-rank1"]
