"""The key of stored features changes whenever the features could, and only then."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from avst.models import feature_key as module
from avst.models.feature_key import content_digest, feature_key, tower_digest
from avst.models.features import _encoders
from avst.models.loading import freeze_towers
from avst.types import Clip, Prompt
from tests.tiny_world import load_grouped, make_builder, make_clip, make_question

OMNI = "qwen2_5_omni"


@pytest.fixture
def model(tiny_folders: dict[str, Path]) -> Any:
    model = load_grouped(tiny_folders[OMNI], torch.float32)
    freeze_towers(model, ("vision", "audio", "connector"))
    return model


def key_of(model: Any, prompt: Prompt, modality: str = "video") -> str | None:
    encoder = _encoders(model)[modality]
    return feature_key(model, encoder.tower, modality, encoder.given(prompt))


@pytest.fixture(scope="module")
def prompt(tiny_folders: dict[str, Path]) -> Prompt:
    return make_builder(tiny_folders[OMNI]).build(make_question(), make_clip(2.0))


def test_the_same_clip_has_the_same_key(tiny_folders: dict[str, Path], model: Any, prompt: Prompt) -> None:
    """Another question, another object of the model, a tower that was moved or that trains the language model."""
    key = key_of(model, prompt)
    other = make_builder(tiny_folders[OMNI]).build(make_question(3, "Who sounds?"), make_clip(2.0))
    assert key_of(model, other) == key
    assert key_of(copy.deepcopy(model), prompt) == key
    with torch.no_grad():
        model.lm_head.weight.mul_(2)
    assert key_of(model.train(), prompt) == key


@pytest.mark.parametrize(
    "clip",
    [
        make_clip(2.0, seed=1),
        make_clip(3.0),
        make_clip(2.0, fps=1.0),
        make_clip(2.0, fps=4.0),
        make_clip(2.0, size=(56, 84)),
        make_clip(2.0, size=(112, 56)),
    ],
    ids=["frames", "length", "fewer frames", "more frames", "turned", "wider"],
)
def test_another_clip_or_other_frames_have_another_key(
    tiny_folders: dict[str, Path], model: Any, prompt: Prompt, clip: Clip
) -> None:
    other = make_builder(tiny_folders[OMNI]).build(make_question(), clip)
    assert key_of(model, other) != key_of(model, prompt)


def test_the_last_bit_of_any_input_counts(model: Any, prompt: Prompt) -> None:
    for modality in ("video", "audio"):
        before = key_of(model, prompt, modality)
        for name in _encoders(model)[modality].inputs:
            changed = copy.copy(prompt)
            changed.media = {**prompt.media, name: prompt.media[name].clone()}
            changed.media[name].view(-1).view(torch.uint8)[-1] ^= 1
            assert key_of(model, changed, modality) != before, name


def test_any_weight_and_buffer_counts(model: Any, prompt: Prompt) -> None:
    """Also one that is written to after the digest was taken, as a checkpoint that is loaded does."""
    tower = model.model.visual
    tensors = [*tower.parameters(), *tower.buffers()]
    assert len(list(tower.buffers())) > 0
    seen = {key_of(model, prompt)}
    for tensor in (tensors[0], tensors[-1], next(tower.buffers())):
        with torch.no_grad():
            tensor.view(-1)[-1:].add_(1e-3)
        seen.add(key_of(model, prompt))
    assert len(seen) == 4
    audio = key_of(model, prompt, "audio")
    state = model.state_dict()
    name = next(name for name in state if ".visual." in name)
    model.load_state_dict({**state, name: state[name] + 1})
    assert key_of(model, prompt) not in seen
    assert key_of(model, prompt, "audio") == audio  # the other tower's is its own


def test_dtype_autocast_attention_and_config_count(tiny_folders: dict[str, Path], model: Any, prompt: Prompt) -> None:
    seen = [key_of(model, prompt)]
    with torch.autocast("cpu", torch.bfloat16):
        seen.append(key_of(model, prompt))
    double = load_grouped(tiny_folders[OMNI], torch.float64)
    freeze_towers(double, ("vision", "audio", "connector"))
    seen.append(key_of(double, prompt))
    for change in ({"_attn_implementation": "eager"}, {"window_size": 28}):
        other = copy.deepcopy(model)
        for name, value in change.items():
            setattr(other.model.visual.config, name, value)
        seen.append(key_of(other, prompt))
    assert len(set(seen)) == 5


@pytest.mark.parametrize("package", ["torch", "transformers"])
def test_versions_count(monkeypatch: pytest.MonkeyPatch, model: Any, prompt: Prompt, package: str) -> None:
    before = key_of(model, prompt)
    version = module.version
    monkeypatch.setattr(module, "version", lambda name: "999" if name == package else version(name))
    module._known.clear()  # another process
    assert key_of(model, prompt) != before


def test_image_and_video_of_equal_tensors_have_their_own_keys(model: Any) -> None:
    inputs = {"pixels": torch.zeros(4, 3)}
    tower = model.model.visual
    assert feature_key(model, tower, "image", inputs) != feature_key(model, tower, "video", inputs)


def test_weights_are_hashed_once(monkeypatch: pytest.MonkeyPatch, model: Any) -> None:
    first = tower_digest(model.model.visual)
    monkeypatch.setattr(module, "content_digest", lambda tensors: pytest.fail("hashed again"))
    assert tower_digest(model.model.visual) == first


def test_only_what_was_written_to_is_hashed_again(monkeypatch: pytest.MonkeyPatch, model: Any) -> None:
    """DDP writes to the buffers at every forward: that must not cost a reading of all weights."""
    tower = model.model.visual
    first, hashed = tower_digest(tower), []
    monkeypatch.setattr(
        module, "content_digest", lambda tensors: hashed.extend(tensors := list(tensors)) or content_digest(tensors)
    )
    name, buffer = next(tower.named_buffers())
    buffer.copy_(buffer.clone())
    assert tower_digest(tower) == first
    assert [part for part, _ in hashed] == [name]


def test_weights_that_cannot_be_known_have_no_digest(model: Any) -> None:
    tower = model.model.visual
    assert tower_digest(tower) is not None
    parameter = next(tower.parameters())
    parameter.ds_id = 0  # DeepSpeed took it apart
    assert tower_digest(tower) is None
    del parameter.ds_id
    parameter.requires_grad_(True)
    assert tower_digest(tower) is None
    parameter.requires_grad_(False)
    assert tower_digest(tower) is not None


def test_a_tower_with_adapters_has_no_digest_even_when_they_are_off(model: Any) -> None:
    """Switching adapters off takes their gradient away, so the tower looks frozen while its output is another one."""
    names = [name for name, part in model.named_modules() if ".visual." in name and isinstance(part, nn.Linear)]
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=names[:2]))
    bare = adapted.get_base_model()
    assert tower_digest(bare.model.visual) is None
    with adapted.disable_adapter():
        assert tower_digest(bare.model.visual) is None
    assert tower_digest(bare.model.audio_tower) is not None


def test_content_digest_sees_where_one_tensor_ends() -> None:
    a, b = torch.arange(6, dtype=torch.uint8), torch.arange(6, 12, dtype=torch.uint8)
    digests = {
        content_digest([("a", a), ("b", b)]),
        content_digest([("a", torch.cat([a, b])), ("b", b[:0])]),
        content_digest([("b", a), ("a", b)]),
        content_digest([("a", a.view(2, 3)), ("b", b)]),
        content_digest([("a", a.view(torch.int8)), ("b", b)]),
        content_digest([("a", a)]),
    }
    assert len(digests) == 6
    assert content_digest([("a", a.repeat(2)[::2])]) == content_digest([("a", a.repeat(2)[::2].clone())])


def test_content_digest_is_that_of_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads only share the work: with one thread the digest is the same; every chunk counts, in its place."""
    monkeypatch.setattr(module, "CHUNK", 64)
    tensor = torch.arange(500, dtype=torch.float32)
    first = content_digest([("a", tensor)])
    monkeypatch.setattr(module, "THREADS", 1)
    assert content_digest([("a", tensor)]) == first
    swapped = torch.cat([tensor[16:32], tensor[:16], tensor[32:]])  # two whole chunks
    assert content_digest([("a", swapped)]) != first
