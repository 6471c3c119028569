"""A run that goes on from a checkpoint is, bit for bit, the run that was never interrupted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from avst.checkpoints import found_in, problems
from avst.trainer import GRPOTrainer
from tests.grpo_world import clip_rows, make_trainer, weights

STEPS = 6
# two micro-batches a step, an optimizer with a state, a rate that changes, log lines that do not fall on save points
OPTIONS: dict[str, Any] = {
    **{"max_steps": STEPS, "save_strategy": "steps", "save_steps": 1, "logging_steps": 4, "logging_first_step": True},
    **{"optim": "adamw_torch", "learning_rate": 0.01, "lr_scheduler_type": "linear", "beta": 0.1},
    **{"gradient_accumulation_steps": 2, "shuffle_dataset": True, "seed": 7},
}


def run(folder: Path, out: Path, resume: Path | None = None, **options: Any) -> GRPOTrainer:
    """Answers are drawn, not given: the random states count."""
    trainer = make_trainer(folder, out, clip_rows(folder), trainer_class=GRPOTrainer, **{**OPTIONS, **options})
    trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
    return trainer


def lines(trainer: GRPOTrainer) -> list[dict[str, Any]]:
    """The log without what a clock says."""
    timed = ("seconds", "runtime", "per_second", "total_flos")
    return [
        {key: value for key, value in line.items() if not any(word in key for word in timed)}
        for line in trainer.state.log_history
    ]


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


@pytest.mark.parametrize("iterations", [1, 2])
def test_from_every_save_point(tiny_folders: dict[str, Path], tmp_path: Path, iterations: int) -> None:
    folder = tiny_folders["qwen2_5_omni"]
    whole = run(folder, tmp_path / "whole", num_iterations=iterations)
    saved = found_in(tmp_path / "whole")
    # inside num_iterations a checkpoint waits for the end of the window
    assert [checkpoint.step for checkpoint in saved] == list(range(iterations, STEPS + 1, iterations))
    for checkpoint in saved[:-1]:
        assert problems(checkpoint.path) == []
        again = run(folder, tmp_path / f"from_{checkpoint.step}", checkpoint.path, num_iterations=iterations)
        assert same(weights(again), weights(whole))
        assert same(again.optimizer.state_dict(), whole.optimizer.state_dict())
        assert same(again.lr_scheduler.state_dict(), whole.lr_scheduler.state_dict())
        last = f"checkpoint-{STEPS}"
        states = [
            torch.load(out / last / "rng_state.pth", weights_only=False)
            for out in (tmp_path / "whole", tmp_path / f"from_{checkpoint.step}")
        ]
        assert torch.equal(states[0]["cpu"], states[1]["cpu"])
        assert lines(again) == lines(whole)
