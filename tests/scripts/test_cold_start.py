"""The script that made the packaged model: what it teaches in which order, its optimizer, and a run of two steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from avst.config import load_recipe
from avst.models.loading import load
from scripts.cold_start.__main__ import rate_at, teach, trainer_for
from scripts.cold_start.card import write_card
from scripts.cold_start.lessons import settings_at
from scripts.cold_start.optimizer import MuonWithAdamW


def test_clips_grow_and_things_get_silent() -> None:
    rng = np.random.default_rng(0)
    first, last = ([settings_at(progress, rng) for _ in range(400)] for progress in (0.0, 1.0))
    assert {s.duration_s[0] for s in first} == {1.0}
    assert {s.n_silent for s in first} == {(0, 0)}
    lengths = [s.duration_s[0] for s in last]
    assert set(lengths) == {1.0, 2.0, 3.0, 4.0, 6.0}
    assert 0.6 < lengths.count(6.0) / 400 < 0.76  # 0.6, and a fifth of the rest
    assert 0.85 < [s.n_silent for s in last].count((0, 1)) / 400 < 0.95


def test_the_rate_rises_stays_and_falls() -> None:
    assert [round(rate_at(step, 1000), 3) for step in (0, 24, 49, 499, 750, 999)] == [0.02, 0.5, 1, 1, 0.5, 0.02]


def test_one_optimizer_steps_as_the_two_do() -> None:
    """A matrix by Muon, its bias and the head by AdamW; a scheduler's factor reaches both."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.inner = nn.Linear(4, 6)
            self.lm_head = nn.Linear(6, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.lm_head(self.inner(x).tanh())

    ours, theirs = Net(), Net()
    both = MuonWithAdamW(ours, 0.02, 0.003)
    schedule = torch.optim.lr_scheduler.LambdaLR(both, lambda step: 1 / (step + 1))
    muon = torch.optim.Muon([theirs.inner.weight], lr=0.02, momentum=0.95, weight_decay=0.01)
    rest = [theirs.inner.bias, *theirs.lm_head.parameters()]
    adamw = torch.optim.AdamW(rest, lr=0.003, betas=(0.9, 0.98), weight_decay=0.01)
    x = torch.randn(5, 4)
    for step in range(3):
        for net in (ours, theirs):
            net.zero_grad()
            net(x).square().sum().backward()
        for group, rate in ((muon.param_groups[0], 0.02), (adamw.param_groups[0], 0.003)):
            group["lr"] = rate / (step + 1)
        both.step()
        schedule.step()
        muon.step()
        adamw.step()
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(mine, other)


def test_it_teaches_and_writes_a_card(tmp_path: Path) -> None:
    recipe = load_recipe("recipes/quickstart.yaml", ["eval.max_new_tokens=8"])
    out = tmp_path / "model"
    trainer = trainer_for(recipe, tmp_path / "work", steps=2, seed=3)
    seconds = teach(trainer, out)
    assert isinstance(trainer.optimizer.optimizer, MuonWithAdamW)
    share = 3 / 50 * 0.02  # third of fifty warm-up steps, at the end of the fall
    assert [group["lr"] for group in trainer.optimizer.param_groups] == pytest.approx([0.02 * share, 2e-3 * share])
    raw, taught = (load(folder, dtype="float32")[0].state_dict() for folder in (tmp_path / "work" / "raw", out))
    changed = {name for name in raw if not torch.equal(raw[name], taught[name])}
    for part in ("visual", "audio_tower", "layers.0", "lm_head"):
        assert any(part in name for name in changed), part
    write_card(recipe, out, tmp_path / "work", 2, 24, 3, seconds, 3)
    card = (out / "README.md").read_text(encoding="utf-8")
    assert "python -m scripts.cold_start --steps 2 --seed 3" in card
    assert "24 clips" in card
    assert "whole clip" in card
    assert "$" not in card
