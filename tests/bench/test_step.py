"""The step's benchmark: both trainers take real steps on the same prompts, with as many answer tokens."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from avst.models import families
from scripts.bench import step, step_arms


@pytest.mark.parametrize("frozen", [False, True])
def test_both_trainers_do_the_same_work(tmp_path: Path, frozen: bool) -> None:
    step_arms.make_checkpoint(tmp_path / "model", **step.SMALL_MODEL)
    shape = {"folder": str(tmp_path / "model"), "out": str(tmp_path / "out"), "prompts": 2, "frozen": frozen}
    shape |= step.SMALL_SHAPE
    theirs, ours = step_arms.trl_arm(**shape), step_arms.avst_arm(**shape)
    for _ in range(2):
        seen = theirs(), ours()
        step.check(*seen, shape)
        assert seen[1]["answer_tokens"] == 2 * 3 * 8
        assert seen[1]["phases"]["backward"] > 0


def test_a_difference_is_an_error() -> None:
    shape = {"prompts": 1, "answers": 2, "answer_tokens": 3}
    same = {"prompt_tokens": 5, "answer_tokens": 6, "logps_apart": 1e-6}
    step.check(same, same, shape)
    for other in ({"prompt_tokens": 4}, {"answer_tokens": 7}):
        with pytest.raises(AssertionError, match=r"4|7"):
            step.check(same | other, same, shape)
    for apart in (0.5, float("nan")):
        with pytest.raises(AssertionError, match="log-probs"):
            step.check(same, same | {"logps_apart": apart}, shape)


def test_other_positions_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check of log-probs would notice a prompt whose images stand elsewhere."""
    step_arms.make_checkpoint(tmp_path / "model", **step.SMALL_MODEL)
    shape = {"folder": str(tmp_path / "model"), "out": str(tmp_path / "out"), "prompts": 1, "frozen": False}
    shape |= step.SMALL_SHAPE
    step_arms.trl_arm(**shape)()
    monkeypatch.setattr(
        families, "prompt_positions", lambda model, prompt: torch.arange(len(prompt.input_ids)).expand(3, -1)
    )
    assert step_arms.avst_arm(**shape)()["logps_apart"] > step.LOGPS_APART


def test_what_fails_in_the_trainer_fails_in_the_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step_arms.make_checkpoint(tmp_path / "model", **step.SMALL_MODEL)
    shape = {"folder": str(tmp_path / "model"), "out": str(tmp_path / "out"), "prompts": 1, "frozen": False}

    def failing(*args: object, **columns: object) -> list[float]:
        raise ZeroDivisionError("a reward")

    monkeypatch.setattr(step_arms, "sevenths", failing)
    monkeypatch.setattr(step_arms, "logps_apart", lambda *_: 0.0)  # TRL's arm does not run here
    with pytest.raises(Exception, match="a reward"):
        step_arms.avst_arm(**shape, **step.SMALL_SHAPE)()
