"""The twin that draws answers while an engine holds the weights. tests/test_engines.py has the engines themselves."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import TrainingArguments

from avst.errors import AvstError
from avst.models.feature_store import FeatureStore
from avst.models.loading import freeze_towers
from avst.sft import SFTTrainer
from avst.sharding import WholeWeights, computed_in, copy_of, sharded
from tests.tiny_world import load_grouped, make_builder


def state(**plugins: object) -> SimpleNamespace:
    return SimpleNamespace(state=SimpleNamespace(**{"deepspeed_plugin": None, **plugins}))


def test_the_twin_follows_the_model(tiny_folders: dict[str, Path]) -> None:
    """It computes what the model does now, not what it did when the twin was made; it is empty outside."""
    model = load_grouped(tiny_folders["qwen2_5_vl"])
    freeze_towers(model, ["vision"])
    whole = WholeWeights(model, torch.device("cpu"))
    ids = torch.arange(300, 312)[None]
    with torch.no_grad():
        model.lm_head.weight.mul_(-1.5)
        with whole.gathered(model) as twin:
            assert torch.equal(twin(input_ids=ids).logits, model(input_ids=ids).logits)
            assert {n for n, p in twin.named_parameters() if p.requires_grad} == {
                n for n, p in model.named_parameters() if p.requires_grad
            }
    assert sum(p.numel() for p in whole.twin.parameters()) == 0
    assert sum(p.numel() for p in model.parameters()) > 0


def test_narrower_weights(tiny_folders: dict[str, Path]) -> None:
    model = load_grouped(tiny_folders["qwen2_5_vl"])
    with WholeWeights(model, torch.device("cpu")).gathered(model, torch.bfloat16) as twin:
        for mine, theirs in zip(twin.parameters(), model.parameters(), strict=True):
            assert torch.equal(mine, theirs.to(torch.bfloat16))
    assert {p.dtype for p in model.parameters()} == {torch.float64}


def test_a_copy_shares_nothing(tiny_folders: dict[str, Path]) -> None:
    model = load_grouped(tiny_folders["qwen2_5_vl"])
    copied = copy_of(model)
    for mine, theirs in zip(copied.parameters(), model.parameters(), strict=True):
        assert torch.equal(mine, theirs)
        assert mine.data_ptr() != theirs.data_ptr()


def test_engines_are_recognised() -> None:
    assert sharded(state()) == ""
    assert sharded(state(deepspeed_plugin=SimpleNamespace(zero_stage=2))) == ""
    assert sharded(state(deepspeed_plugin=SimpleNamespace(zero_stage=3))) == "ZeRO-3"
    two = SimpleNamespace(fsdp_version=2, mixed_precision_policy=SimpleNamespace(param_dtype=torch.bfloat16))
    assert sharded(state(fsdp_plugin=two)) == "FSDP2"
    assert computed_in(state(fsdp_plugin=two)) == torch.bfloat16
    assert computed_in(state()) is None
    with pytest.raises(AvstError, match="fsdp_version: 2"):
        sharded(state(fsdp_plugin=SimpleNamespace(fsdp_version=1)))


def test_supervised_training_takes_no_features_from_a_disk(
    tiny_folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would find none: features are found by the whole weights of a tower, which no process has there."""
    monkeypatch.setattr("avst.row_trainer.sharded", lambda accelerator: "ZeRO-3")
    folder = tiny_folders["qwen2_5_vl"]
    model = load_grouped(folder)
    model.feature_store = FeatureStore(tmp_path / "features", 10**6)
    args = TrainingArguments(str(tmp_path), report_to="none", use_cpu=True)
    with pytest.raises(AvstError, match=r"model\.feature_cache: not for avst sft under ZeRO-3: .* do nothing"):
        SFTTrainer(model, args, [], make_builder(folder))
