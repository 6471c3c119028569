"""avst dry-run on tiny models of both families, and its pieces against numbers worked by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from avst import cli
from avst.config import load_recipe
from avst.models.loading import load, load_sketch
from avst.models.tiny import make_tiny
from avst.plan.cards import CARDS
from avst.plan.tokens import PromptShape
from avst.plan.work import groups
from avst.preview.estimate import estimate
from avst.preview.look import abbreviated, media_runs
from avst.scenes.settings import make_settings
from avst.scenes.synthesise import synthesise
from tests.tiny_world import SMALL


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dry")
    synthesise(folder / "scenes", 1, 0, make_settings("quickstart"))
    for kind in ("qwen2_5_vl", "qwen2_5_omni"):
        make_tiny(kind, folder / kind, **SMALL)
    (folder / "r.yaml").write_text(
        "model: {path: qwen2_5_omni, dtype: float32}\n"
        "data: {train: scenes/annotations_train.json, videos: scenes/videos}\n"
        "media: {fps: 2.0, min_pixels: 3136, max_pixels: 12544}\n"
        "prompt: {system: Answer in tags.}\n"
        "grpo: {num_generations: 2, per_device_train_batch_size: 2, max_completion_length: 400, bf16: false}\n"
    )
    return folder


def dry_run(world: Path, out: Path, *words: str) -> tuple[int, dict]:
    status = cli.main(["dry-run", str(world / "r.yaml"), "--out", str(out), *words])
    return status, json.loads((out / "dry_run.json").read_text())


@pytest.mark.parametrize("kind", ["qwen2_5_vl", "qwen2_5_omni"])
def test_both_families_say_what_the_model_is_given(
    world: Path, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, said = dry_run(world, tmp_path, f"model.path={world / kind}")
    shown = capsys.readouterr().out
    (look,) = said["questions"]
    frames, height, width, _ = look["clip"]["frames"]
    assert (frames, status) == (12, 0)  # 6 s at 2 a second
    assert look["tokens"]["video"] == frames // 2 * (height // 28) * (width // 28)
    assert ("audio" in look["tokens"]) == look["clip"]["sound"] == (kind == "qwen2_5_omni")
    assert {name for name, value in look["rewards"].items() if value is not None} >= {"format"}
    assert look["problems"] == []
    assert "×" in look["prompt"]
    for picture in tmp_path.glob("*.png"):
        assert min(Image.open(picture).size) > 100
    assert len(list(tmp_path.glob("*.png"))) == 2
    assert "---- gold answer" in shown


def test_a_gold_answer_that_is_too_long_is_a_problem(world: Path, tmp_path: Path) -> None:
    status, said = dry_run(world, tmp_path, "grpo.max_completion_length=5")
    assert status == 1
    assert "max_completion_length is 5: it cannot be written" in said["questions"][0]["problems"][0]


def test_a_reward_that_does_not_pay_the_gold_answer_is_named(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mean.py").write_text("def half(prompts, completions, **columns):\n    return [0.5] * len(prompts)\n")
    monkeypatch.chdir(tmp_path)
    status, said = dry_run(world, tmp_path / "out", "rewards.half={use: ./mean.py:half, weight: 1.0}")
    assert status == 1
    assert "the gold answer earns 0.5 by half, not 1" in said["questions"][0]["problems"][0]


def test_a_question_by_its_id_and_a_wrong_one(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    annotations = json.loads((world / "scenes" / "annotations_train.json").read_text())
    wanted = f"{annotations[0]['video_name']}/0/spatial/0"
    _, said = dry_run(world, tmp_path, "--question", wanted)
    assert [look["id"] for look in said["questions"]] == [wanted]
    assert cli.main(["dry-run", str(world / "r.yaml"), "--question", wanted[:-1] + "9"]) == 1
    assert f'did you mean "{wanted[:-1]}' in capsys.readouterr().err


def test_several_questions_of_the_packaged_model(world: Path, tmp_path: Path) -> None:
    status, said = dry_run(world, tmp_path, "model.path=avst/tiny-omni", "--n", "3")
    assert status == 0
    paid = {look["id"]: {name for name, value in look["rewards"].items() if value == 1.0} for look in said["questions"]}
    assert paid == {
        "scene0_00000/0/temporal/0": {"format", "temporal"},
        "scene0_00000/0/spatial/0": {"format", "object", "spatial"},
        "scene0_00000/0/spatial/1": {"format", "object", "spatial"},
    }
    assert len(list(tmp_path.glob("*.png"))) == 2 * 3
    assert not any(look["problems"] for look in said["questions"])


def test_a_forward_and_backward_is_measured(world: Path, tmp_path: Path) -> None:
    _, said = dry_run(world, tmp_path, "--measure", "grpo.max_completion_length=120")
    assert said["measured"]["seconds"] > 0
    assert said["measured"]["peak_bytes"] > said["estimate"]["weights"]


def test_runs_of_placeholders_are_counted() -> None:
    assert abbreviated("a<|V|><|V|><|V|><|V|><|V|>b<|A|><|A|>") == "a<|V|>×5b<|A|><|A|>"
    assert abbreviated("<|a|><|b|>") == "<|a|><|b|>"
    order = [("text", 3), ("video", 4), ("audio", 2), ("text", 1), ("video", 4), ("text", 9)]
    assert media_runs(order) == [("video", 4), ("audio", 2), ("video", 4)]


def test_a_sketch_has_the_models_shapes_and_no_weights(world: Path) -> None:
    model, _, family = load(world / "qwen2_5_omni", dtype="float32", freeze=["vision"])
    drawn, _, drawn_family = load_sketch(world / "qwen2_5_omni", dtype="float32", freeze=["vision"])
    assert drawn_family == family
    assert {n: (p.shape, p.requires_grad) for n, p in drawn.named_parameters()} == {
        n: (p.shape, p.requires_grad) for n, p in model.named_parameters()
    }
    assert {p.device for p in drawn.parameters()} == {torch.device("meta")}


def test_the_estimate_by_hand(world: Path) -> None:
    """SMALL: 2 layers of 32, one key head of 16; two answers of 400 tokens to a prompt of 100: 900 tokens."""
    recipe = load_recipe(world / "r.yaml", ["grpo.beta=0.04", "grpo.gradient_checkpointing=false"])
    model, _, _ = load_sketch(world / "qwen2_5_omni", dtype="float32")
    n = sum(p.numel() for p in model.parameters())
    assert groups(recipe) == (2, 1, 400)
    prompt = PromptShape(text=60, video=40, audio=0, patches=160, frame_patches=16, mel=0)
    found = estimate(recipe, model, [prompt], CARDS["A6000"])
    assert (found.shape.parameters, found.shape.trainable, found.work.tokens) == (n, n, 900)
    need = found.memory
    assert (need.weights, need.gradients, need.optimizer, need.reference) == (4 * n, 4 * n, 8 * n, 4 * n)
    # 99 tokens of the prompt are cached, an answer has room for 512: 64, doubled until 400 fit
    assert need.cache == 2 * 2 * 16 * (99 + 2 * 512) * 4
