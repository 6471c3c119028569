"""Training with the feature store: the same steps as without, no tower called twice for a clip over epochs and runs,
and what is logged of it."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import TrainingArguments

from avst import assemble, bounded_folder
from avst.config import LoraRecipe, ModelRecipe, Recipe, load_recipe
from avst.data import Kept
from avst.errors import AvstError
from avst.models.families import unwrapped
from avst.models.feature_store import FeatureStore
from avst.models.features import media_features
from avst.models.loading import freeze_towers, lora_config
from avst.sft import SFTTrainer
from avst.step import Meter
from avst.step_log import log_features
from tests.grpo_world import clip_rows, logged, make_trainer, weights
from tests.tiny_world import load_grouped, make_builder, make_clip, make_question

KINDS = {"qwen2_5_vl": ("vision", "connector"), "qwen2_5_omni": ("vision", "audio", "connector")}


@pytest.fixture(autouse=True)
def fresh() -> None:
    bounded_folder.warned.clear()


def tower_calls(model: Any) -> Counter[str]:
    """Counts from now on how often each tower of the model runs."""
    calls: Counter[str] = Counter()
    inner = unwrapped(model).model
    for name in ("visual", "audio_tower"):
        if (tower := getattr(inner, name, None)) is not None:
            tower.register_forward_hook(lambda *_, name=name: calls.update([name]))
    return calls


def trained(folder: Path, out: Path, store: FeatureStore | None, freeze: tuple[str, ...], **options: Any) -> Any:
    """(trainer, tower calls) after two epochs over two clips, a clip a step; nothing stays on the rows."""
    rows = Kept(clip_rows(folder, 2))
    trainer = make_trainer(folder, out, [rows[0], rows[1]], freeze=freeze, max_steps=4, **options)
    trainer.train_dataset = rows
    model = unwrapped(trainer.model)
    model.feature_store = store
    calls = tower_calls(model)
    if trainer.reference is not None and trainer.reference.model is not None:
        trainer.reference.model.feature_store = store
        calls_there = tower_calls(trainer.reference.model)
        trainer.train()
        return trainer, calls + calls_there
    trainer.train()
    return trainer, calls


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("kind", KINDS)
def test_steps_with_the_store_are_the_steps_without(tiny_folders: dict[str, Path], tmp_path: Path, kind: str) -> None:
    """float64, bit for bit: no store, an empty one, and a full one that another run left."""
    folder, freeze = tiny_folders[kind], KINDS[kind]
    n_towers = len(freeze) - 1
    plain, calls = trained(folder, tmp_path / "plain", None, freeze, beta=0.04)
    assert sum(calls.values()) == 4 * n_towers  # once a step, rollout, policy and reference together
    cold = FeatureStore(tmp_path / "cache", 10**9)
    first, calls = trained(folder, tmp_path / "first", cold, freeze, beta=0.04)
    assert sum(calls.values()) == 2 * n_towers  # once a clip: the second epoch computes nothing
    warm = FeatureStore(tmp_path / "cache", 10**9)
    second, calls = trained(folder, tmp_path / "second", warm, freeze, beta=0.04)
    assert sum(calls.values()) == 0
    # in memory or on disk: a step's prompts go when the collector comes by
    assert (cold.stats().hits, cold.stats().computed) == (2 * n_towers, 2 * n_towers)
    assert (warm.stats().hits, warm.stats().computed) == (4 * n_towers, 0)
    assert warm.stats().disk >= 2 * n_towers
    assert same(weights(plain), weights(first))
    assert same(weights(plain), weights(second))
    assert logged(plain, "loss") == logged(first, "loss") == logged(second, "loss")


def test_a_tower_that_trains_is_never_stored(
    tiny_folders: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The connector is part of the tower: freezing the tower alone is not enough."""
    folder = tiny_folders["qwen2_5_omni"]
    plain, calls = trained(folder, tmp_path / "plain", None, ("vision",))
    store = FeatureStore(tmp_path / "cache", 10**9)
    with caplog.at_level(logging.WARNING):
        other, calls_with = trained(folder, tmp_path / "with", store, ("vision",))
    assert (store.stats().hits, store.stats().computed) == (0, 0)
    assert calls == calls_with
    assert same(weights(plain), weights(other))
    assert not list(tmp_path.rglob("*.safetensors"))
    assert len([m for m in caplog.messages if m.startswith("model.feature_cache: no tower is frozen")]) == 1


def test_one_frozen_tower_of_two_is_stored_and_nothing_is_said(
    tiny_folders: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tiny_folders["qwen2_5_omni"]
    model = load_grouped(folder)
    model.model.visual.requires_grad_(False)
    model.feature_store = FeatureStore(tmp_path, 10**9)
    prompt = make_builder(folder).build(make_question(), make_clip(2.0))
    with caplog.at_level(logging.WARNING):
        seen, heard = (media_features(model, prompt, modality) for modality in ("video", "audio"))
    assert not caplog.messages
    assert (seen.requires_grad, heard.requires_grad) == (False, True)
    assert (model.feature_store.stats().computed, list(prompt.features)) == (1, ["video"])


def test_adapters_on_the_language_model_leave_the_towers_frozen(tiny_folders: dict[str, Path], tmp_path: Path) -> None:
    folder = tiny_folders["qwen2_5_vl"]
    store = FeatureStore(tmp_path / "cache", 10**9)
    model = load_grouped(folder)
    _, calls = trained(folder, tmp_path, store, (), model=model, peft_config=lora_config(model, 2), beta=0.04)
    assert calls == {"visual": 2}


def test_a_frozen_tower_has_no_dropout_while_the_model_trains(tiny_folders: dict[str, Path]) -> None:
    folder = tiny_folders["qwen2_5_omni"]
    model = load_grouped(folder)
    freeze_towers(model, KINDS["qwen2_5_omni"])
    prompts = [make_builder(folder).build(make_question(), make_clip(2.0)) for _ in range(2)]
    quiet = media_features(model.eval(), prompts[0], "audio")
    for layer in model.model.audio_tower.layers:
        layer.dropout = 0.5
    assert torch.equal(media_features(model.train(), prompts[1], "audio"), quiet)
    assert all(layer.training for layer in model.model.audio_tower.layers)  # as it was


def test_supervised_training_reads_the_second_epoch_from_disk(tiny_folders: dict[str, Path], tmp_path: Path) -> None:
    folder = tiny_folders["qwen2_5_vl"]
    found = {}
    for name in ("plain", "stored"):
        model = load_grouped(folder)
        freeze_towers(model, KINDS["qwen2_5_vl"])
        model.feature_store = FeatureStore(tmp_path / "cache", 10**9) if name == "stored" else None
        calls = tower_calls(model)
        args = TrainingArguments(
            output_dir=str(tmp_path / name), report_to="none", use_cpu=True, per_device_train_batch_size=1,
            num_train_epochs=2, logging_steps=2, optim="sgd", learning_rate=0.05, save_strategy="no", disable_tqdm=True,
            dataloader_pin_memory=False,
        )  # fmt: skip
        trainer = SFTTrainer(model, args, Kept(clip_rows(folder, 2)), make_builder(folder))
        trainer.train()
        found[name] = weights(trainer)
        assert calls == {"visual": 2 if name == "stored" else 4}
        rates = [line.get("features/hit_rate") for line in trainer.state.log_history if "loss" in line]
        assert rates == ([0.0, 1.0] if name == "stored" else [None, None])
    assert same(found["plain"], found["stored"])


def test_what_is_logged(tmp_path: Path) -> None:
    def one(value: float) -> Tensor:
        return torch.full((3,), value)

    store, cpu = FeatureStore(tmp_path, 10**9), torch.device("cpu")
    held = store.get("a", cpu, lambda: one(1))
    assert store.get("a", cpu, lambda: one(2)) is held
    store.get("b", cpu, lambda: one(3))
    store.get("b", cpu, lambda: one(4))
    meter = Meter()
    log_features(meter, store)
    assert meter.merged([meter]) == {"features/hit_rate": 0.5, "features/computed": 2.0}
    store.get("b", cpu, lambda: one(4))
    log_features(meter, store)
    assert meter.merged([meter]) == {"features/hit_rate": 0.6, "features/computed": 2.0}
    other, silent = Meter(), Meter()
    log_features(other, store)  # nothing new
    log_features(silent, None)
    assert other.merged([other]) == {"features/computed": 0.0}
    assert silent.merged([silent]) == {}
    assert meter.merged([meter, other, silent]) == {"features/hit_rate": 0.6, "features/computed": 2.0}


def test_the_recipe_gives_the_model_its_store(
    tiny_folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = ModelRecipe(str(tiny_folders["qwen2_5_vl"]), freeze=("vision", "connector"), feature_cache="cache")
    bare = unwrapped(assemble.policy(Recipe("a", model)).model)
    assert bare.feature_store.folder.root == Path("cache") / "features"
    assert bare.feature_store.folder.limit_bytes == 50 * 10**9
    unasked = ModelRecipe(model.path, lora=LoraRecipe(r=2))
    assert getattr(unwrapped(assemble.policy(Recipe("a", unasked)).model), "feature_store", None) is None


def test_the_recipe_says_where_and_how_much(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("model: {path: m, feature_cache: here, feature_cache_gb: 2.5}\n")
    (tmp_path / "here").mkdir()
    model = load_recipe(path).model
    assert (model.feature_cache, model.feature_cache_gb) == ("here", 2.5)  # written: in the working folder
    for wrong in ("feature_cache_gb: 0", "feature_cache: ''"):
        path.write_text(f"model: {{path: m, {wrong}}}\n")
        with pytest.raises(AvstError, match=r"a.yaml:1:.*feature_cache"):
            load_recipe(path)
