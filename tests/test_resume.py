"""A run that goes on from a checkpoint goes on from its weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoConfig

from avst.models.families import model_class
from avst.models.loading import load, restore_weights
from avst.models.tiny import make_tiny


@pytest.mark.parametrize("kind", ["qwen2_5_omni", "qwen2_5_vl"])
def test_every_weight_of_the_checkpoint_comes_back(tmp_path: Path, kind: str) -> None:
    trained = make_tiny(kind, tmp_path / "trained", hidden=32, layers=1, seed=1)
    model, _, _ = load(make_tiny(kind, tmp_path / "start", hidden=32, layers=1, seed=2), dtype="float32")
    model.save_pretrained(tmp_path / "saved_by_a_trainer")  # under the names that this class writes
    restore_weights(model, trained)
    wanted = model_class(AutoConfig.from_pretrained(trained)).from_pretrained(trained).state_dict()
    assert all(torch.equal(value, wanted[name]) for name, value in model.state_dict().items())
    restore_weights(model, tmp_path / "saved_by_a_trainer")
    assert not all(torch.equal(value, wanted[name]) for name, value in model.state_dict().items())


def test_the_trainers_use_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import avst.row_trainer
    from avst.sft import SFTTrainer
    from avst.trainer import GRPOTrainer

    for trainer in (GRPOTrainer, SFTTrainer):
        asked: list[object] = []
        monkeypatch.setattr(avst.row_trainer, "restore_weights", lambda model, path, asked=asked: asked.append(path))
        bare = trainer.__new__(trainer)
        bare.model, bare.is_fsdp_enabled = torch.nn.Linear(1, 1), False
        bare._load_from_checkpoint("there")
        assert asked == ["there"]
