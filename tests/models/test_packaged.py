"""The policy that comes with avst: small, found by name, and better than answers given with closed eyes."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from avst.checkpoint_digest import checkpoint_digest
from avst.config import load_recipe
from avst.doctor.recipe import check_recipe
from avst.errors import AvstError
from avst.metrics import measure
from avst.model_card.facts import Facts
from avst.models.loading import load, load_sketch
from avst.models.packaged import PACKAGED, packaged
from avst.prompt import PromptBuilder, audio_clock_of
from avst.rollout import Sampling, end_tokens, rollout
from avst.scenes.in_memory import scene_clip, scene_questions
from avst.scenes.plan import plan_scene
from avst.scenes.settings import make_settings
from avst.tables import trivial_results
from avst.trivial import FREQUENT_NAME, WHOLE_CLIP, WHOLE_FRAME
from avst.word_vectors import WordVectors


def test_a_name_is_a_folder_of_at_most_8_mb_and_other_names_stay() -> None:
    folder = PACKAGED["avst/tiny-omni"]
    assert packaged("avst/tiny-omni") == folder
    assert packaged("Qwen/Qwen2.5-VL-7B-Instruct") == "Qwen/Qwen2.5-VL-7B-Instruct"
    assert sum(file.stat().st_size for file in folder.iterdir()) < 8e6
    assert checkpoint_digest("avst/tiny-omni") == checkpoint_digest(folder)
    assert load_recipe("recipes/quickstart.yaml").model.path == "avst/tiny-omni"


def test_it_answers_better_than_the_trivial_answers() -> None:
    """24 scenes that it was not taught on: times, names and boxes, each well above what trivial answers get."""
    model, processor, family = load("avst/tiny-omni", dtype="float32")
    model.eval()
    settings, words = make_settings("quickstart"), WordVectors()
    prompts = PromptBuilder(processor, family, system="Answer in tags.", audio_clock=audio_clock_of(model.config))
    ends, pad = end_tokens(model, processor.tokenizer)
    asked, results = [], []
    for index in range(24):
        scene = plan_scene(settings, 31, index)
        questions = scene_questions(scene, settings)
        built = prompts.build_all(questions, scene_clip(scene, 2.0))
        with torch.no_grad():
            groups = rollout(model, built, 1, Sampling(max_new_tokens=112, temperature=0), ends, pad)
        for prompt, group in zip(built, groups, strict=True):
            answer = prompts.read(prompts.decode(group.completion_ids[0]), prompt)
            results.append(measure(prompt.question, answer, words))
        asked += questions
    trivial = trivial_results(asked, words, {q.video: (112.0, 112.0) for q in asked})

    def mean(rows: list, figure: str) -> float:
        return float(np.mean([getattr(row, figure) for row in rows if getattr(row, figure) is not None]))

    assert mean(results, "tiou") > mean(trivial[WHOLE_CLIP], "tiou") + 0.15
    assert mean(results, "viou") > mean(trivial[WHOLE_FRAME], "viou")
    assert mean(results, "object_accuracy") > mean(trivial[FREQUENT_NAME], "object_accuracy") + 0.2


@pytest.mark.parametrize("weights", [None, b"no safetensors at all"], ids=["absent", "damaged"])
def test_a_folder_whose_weights_cannot_be_read_is_one_line(weights: bytes | None, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    shutil.copytree(PACKAGED["avst/tiny-omni"], folder, ignore=shutil.ignore_patterns("*.safetensors"))
    if weights is not None:
        (folder / "model.safetensors").write_bytes(weights)
    with pytest.raises(AvstError, match="its weights cannot be read"):
        load(folder)


def test_every_way_to_load_knows_its_name(tmp_path: Path) -> None:
    """The weights, the sketch that `avst dry-run` counts with, adapters upon it, `avst doctor`, and a card's base."""
    whole = load("avst/tiny-omni", dtype="float32")[0]
    sketch = load_sketch("avst/tiny-omni", dtype="float32")[0]
    assert [(n, p.shape) for n, p in sketch.named_parameters()] == [(n, p.shape) for n, p in whole.named_parameters()]
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "avst/tiny-omni"}')
    assert load_sketch(tmp_path, dtype="float32")[0].config.text_config.hidden_size == 128
    checks = {check.name: check for check in check_recipe(load_recipe("recipes/quickstart.yaml"))}
    assert checks["model.path"].state == "ok"
    assert Facts("train", "avst/tiny-omni", "", {}, {}, {}).hub_base is None
    assert Facts("train", "Qwen/Qwen2.5-Omni-7B", "", {}, {}, {}).hub_base == "Qwen/Qwen2.5-Omni-7B"


def test_a_folder_without_processor_is_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    shutil.copytree(PACKAGED["avst/tiny-omni"], folder, ignore=shutil.ignore_patterns("*processor*", "tokenizer*"))
    for read in (load, load_sketch):
        with pytest.raises(AvstError, match="no processor there"):
            read(folder, dtype="float32")
