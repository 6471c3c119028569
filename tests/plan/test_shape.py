"""Parameters by part: those that the Hub states for the published models, those of real tiny ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from peft import get_peft_model

from avst.config import LoraRecipe, load_recipe
from avst.errors import AvstError
from avst.models.loading import load, lora_config, sketch_of
from avst.plan.published import config, published
from avst.plan.shape import shape_of, sketch

# total_size of each repository's model.safetensors.index.json over two bytes a parameter
STATED = {"3b": 3_754_622_976, "7b": 8_292_166_656, "32b": 33_452_718_336, "72b": 73_410_777_344}


@pytest.mark.parametrize("size", ["3b", "7b", "72b"])
def test_published_dimensions_give_the_stated_parameters(size: str) -> None:
    shape = shape_of(sketch_of(config("vl", size)))
    assert shape.parameters == STATED[size]
    assert shape.itemsize == 2
    assert ("head" in shape.parts) == (size != "3b")  # the 3B's head is its embedding


def test_an_omni_is_a_vl_with_ears() -> None:
    """The thinker of the 7B: the 7B's language model and vision tower, and Whisper's encoder of 32 layers."""
    omni = shape_of(sketch_of(config("omni", "7b")))
    seen = shape_of(sketch_of(config("vl", "7b")))
    same = ("layers", "embeddings", "head", "vision tower")
    assert {part: omni.parts[part] for part in same} == {part: seen.parts[part] for part in same}
    d, inner = 1280, 5120
    layer = 4 * d * d + 3 * d + 2 * (2 * d) + 2 * d * inner + inner + d  # keys have no bias
    ears = 32 * layer + (3 * 128 * d + d) + (3 * d * d + d) + 2 * d + 2 * 3584  # layers, convolutions, norm, two marks
    assert omni.parts["audio tower"] == ears
    assert omni.parts["connectors"] - seen.parts["connectors"] == d * 3584 + 3584


@pytest.mark.parametrize(
    ("path", "known"),
    [
        ("Qwen/Qwen2.5-VL-7B-Instruct", True),
        ("models/qwen2.5-vl-3b-instruct/", True),
        ("Qwen/Qwen2.5-Omni-3B", True),
        ("Qwen/Qwen2.5-Omni-72B", False),
        ("Qwen/Qwen2-VL-7B-Instruct", False),
    ],
)
def test_names_of_published_models(path: str, known: bool) -> None:
    assert (published(path) is not None) == known


def test_a_model_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("model: {path: ./nothing}\n")
    with pytest.raises(AvstError, match="no checkpoint there"):
        sketch(load_recipe(tmp_path / "r.yaml"))


@pytest.mark.parametrize("kind", ["qwen2_5_vl", "qwen2_5_omni"])
@pytest.mark.parametrize("freeze", [(), ("vision",), ("vision", "connector"), ("language",)])
def test_parts_are_those_of_the_model(tiny_folders: dict[str, Path], kind: str, freeze: tuple[str, ...]) -> None:
    model, _, _ = load(tiny_folders[kind], dtype="float32", freeze=freeze)
    shape = shape_of(model)
    assert shape.parameters == sum(p.numel() for p in model.parameters())
    assert shape.trainable == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert shape.vision.frozen == (freeze == ("vision", "connector"))
    assert shape.head_trains == model.lm_head.weight.requires_grad
    assert (shape.audio is None) == (kind == "qwen2_5_vl")


@pytest.mark.parametrize("targets", [None, ("q_proj", "v_proj")])
def test_adapters_are_those_that_peft_makes(tiny_folders: dict[str, Path], targets: tuple[str, ...] | None) -> None:
    model, _, _ = load(tiny_folders["qwen2_5_omni"], dtype="float32")
    shape = shape_of(model, LoraRecipe(r=4, target_modules=targets))
    adapted = get_peft_model(model, lora_config(model, 4, target_modules=targets))
    trained = [p for p in adapted.parameters() if p.requires_grad]
    assert (shape.lora, shape.trainable) == (sum(p.numel() for p in trained),) * 2
    assert shape.adapted == len(trained) // 2
