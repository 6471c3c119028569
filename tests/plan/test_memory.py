"""Bytes by part beside the real tensors: exact where they are called exact, within a bound where autograd decides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import get_peft_model

from avst.config import LoraRecipe
from avst.models.families import prompt_positions
from avst.models.features import media_features
from avst.models.loading import load, lora_config
from avst.models.media_tokens import token_kinds
from avst.models.packing import pack
from avst.models.tiny import make_tiny
from avst.plan import activations
from avst.plan.memory import cache_bytes, memory
from avst.plan.shape import Shape, shape_of
from avst.plan.tokens import PromptShape
from avst.plan.work import Work
from avst.rollout import Sampling, _Decoding
from avst.types import Prompt
from tests.tiny_world import make_builder, make_clip, make_question, text_tokens

G, C = 3, 40
WIDER: dict[str, Any] = {"hidden": 64, "layers": 3, "heads": 4, "kv_heads": 2, "vision_hidden": 32, "max_audio_s": 12}


@pytest.fixture(scope="module")
def wider(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """As tiny_folders, wide enough for the widths to tell."""
    root = tmp_path_factory.mktemp("wider")
    return {kind: make_tiny(kind, root / kind, **WIDER) for kind in ("qwen2_5_vl", "qwen2_5_omni")}


def work_for(prompt: PromptShape, shape: Shape, **changes: Any) -> Work:
    settings: dict[str, Any] = {
        **{"G": G, "prompts": 1, "micro_batches": 1, "iterations": 1, "prompt": prompt, "largest": prompt},
        **{"answer": C, "longest": C, "beta": True, "checkpointing": False, "width": shape.itemsize},
        **{"autocast": False, "sdpa": True, "max_rows": None, "engine": "none", "workers": 0},
    }
    return Work(**settings | changes)


def prompt_of(folder: Path, config: Any) -> tuple[Prompt, PromptShape]:
    prompt = make_builder(folder).build(make_question(), make_clip(4.0, size=(168, 112)))
    return prompt, PromptShape.of(prompt, dict(Counter(token_kinds(prompt, config))))


def size_of(tensors: Any) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("rank", [0, 4])
def test_weights_gradients_and_optimizer_are_the_tensors(tiny_folders: dict[str, Path], dtype: str, rank: int) -> None:
    folder = tiny_folders["qwen2_5_omni"]
    model, _, _ = load(folder, dtype=dtype, freeze=["vision", "connector"])
    _, told = prompt_of(folder, model.config)
    shape = shape_of(model, LoraRecipe(r=rank) if rank else None)
    frozen = size_of(model.parameters())
    if rank:
        model = get_peft_model(model, lora_config(model, rank))
    trained = [p for p in model.parameters() if p.requires_grad]
    for parameter in trained:
        parameter.grad = torch.zeros_like(parameter)
    optimizer = torch.optim.AdamW(trained)
    optimizer.step()
    states = [t for state in optimizer.state.values() for t in state.values() if torch.is_tensor(t) and t.dim()]

    found = memory(shape, work_for(told, shape))
    assert found.weights == size_of(model.parameters())
    assert found.gradients == size_of(p.grad for p in trained)
    assert found.optimizer == size_of(states)
    assert found.reference == (0 if rank else frozen)


@pytest.mark.parametrize("engine", ["zero3", "fsdp2"])
@pytest.mark.parametrize("rank", [0, 4])
def test_shares_and_the_whole_weights_beside_them(tiny_folders: dict[str, Path], engine: str, rank: int) -> None:
    """Of four cards. DeepSpeed narrows all, adapters too; accelerate's FSDP2 widens what has a gradient and no more,
    and computes with all of it narrow (avst.sharding.computed_in)."""
    folder = tiny_folders["qwen2_5_omni"]
    model, _, _ = load(folder, dtype="bfloat16", freeze=["vision", "connector"])
    _, told = prompt_of(folder, model.config)
    shape = shape_of(model, LoraRecipe(r=rank) if rank else None)
    reference = size_of(model.parameters())
    if rank:
        model = get_peft_model(model, lora_config(model, rank))
    narrow = 2 * sum(p.numel() for p in model.parameters())
    for p in model.parameters():
        p.data = p.data.to(torch.float32 if p.requires_grad and engine == "fsdp2" else torch.bfloat16)
    found = memory(shape, work_for(told, shape, width=2, autocast=True, engine=engine), 4)
    assert found.weights == size_of(model.parameters()) // 4
    assert found.gathered == narrow
    assert found.reference == (0 if rank else reference // 4)


def test_four_bits_under_fsdp2_by_hand(tiny_folders: dict[str, Path]) -> None:
    """accelerate leaves them out of the shards: a nibble a weight and a float32 scale for 64, whole on every card."""
    model, _, _ = load(tiny_folders["qwen2_5_vl"], dtype="bfloat16")
    _, told = prompt_of(tiny_folders["qwen2_5_vl"], model.config)
    shape = shape_of(model, LoraRecipe(r=4, quantize_4bit=True))
    found = memory(shape, work_for(told, shape, width=2, autocast=True, engine="fsdp2"), 4)
    language = sum(p.numel() for p in model.model.language_model.layers.parameters() if p.dim() == 2)
    rest = sum(p.numel() for p in model.parameters()) - language
    assert found.weights == language * 9 // 16 + (2 * rest + 4 * shape.lora) // 4
    assert found.gathered == language * 9 // 16 + 2 * (rest + shape.lora)


def test_a_vllm_takes_its_share_of_the_card(tiny_folders: dict[str, Path]) -> None:
    """Beside everything unless it sleeps; on a server nothing; and no cache of avst's own in any case."""
    model, _, _ = load(tiny_folders["qwen2_5_vl"], dtype="float32")
    _, told = prompt_of(tiny_folders["qwen2_5_vl"], model.config)
    shape, room, share = shape_of(model), 1e12, 300_000_000_000
    own = memory(shape, work_for(told, shape), room=room)
    awake = memory(shape, work_for(told, shape, vllm="colocate", vllm_share=0.3), room=room)
    asleep = memory(shape, work_for(told, shape, vllm="colocate", vllm_share=0.3, vllm_sleeps=True), room=room)
    server = memory(shape, work_for(told, shape, vllm="server"), room=room)
    assert own.cache > 0
    assert (own.vllm, server.vllm, awake.vllm) == (0, 0, share)
    assert server.rollout == awake.cache == server.cache == 0
    assert awake.update == own.update + share
    assert asleep.update == own.update
    assert awake.total == server.total + share
    assert asleep.total == round(server.standing * 1.05) + share + server.own
    assert (awake.largest, asleep.largest, server.largest != "vllm") == ("vllm", "vllm", True)


def test_features_of_frozen_towers_are_the_tensors(tiny_folders: dict[str, Path]) -> None:
    folder = tiny_folders["qwen2_5_omni"]
    model, _, _ = load(folder, dtype="float32", freeze=["vision", "audio", "connector"])
    prompt, told = prompt_of(folder, model.config)
    kept = [media_features(model, prompt, modality) for modality in ("video", "audio")]
    shape = shape_of(model)
    assert memory(shape, work_for(told, shape, micro_batches=2)).features == 2 * size_of(kept)


@pytest.mark.parametrize("longest", [40, 100])
def test_the_cache_is_that_of_a_rollout(tiny_folders: dict[str, Path], longest: int) -> None:
    folder = tiny_folders["qwen2_5_vl"]
    model, _, _ = load(folder, dtype="float32")
    model.eval()
    prompt, told = prompt_of(folder, model.config)
    with torch.no_grad():
        decoding = _Decoding(model, [prompt, prompt], G, share=True)
        decoding.run(Sampling(max_new_tokens=longest), [10**6], 0, drop_finished=True)
    layers: Sequence[Any] = decoding.cache.layers
    held = [t for layer in layers for t in (layer.prompt_keys, layer.prompt_values, layer.keys, layer.values)]
    shape = shape_of(model)
    assert cache_bytes(shape, work_for(told, shape, prompts=2, longest=longest)) == size_of(held)


@pytest.mark.parametrize("kind", ["qwen2_5_vl", "qwen2_5_omni"])
@pytest.mark.parametrize(("dtype", "autocast"), [("float32", False), ("float32", True), ("bfloat16", True)])
@pytest.mark.parametrize("rank", [0, 8])
@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "checkpointing"])
def test_activations_are_what_autograd_saves(
    wider: dict[str, Path], kind: str, dtype: str, autocast: bool, rank: int, checkpointing: bool
) -> None:
    """To 7 %, of the language model; what the plan adds for the layer that is computed again is taken off."""
    freeze = ["vision", "connector"] + ["audio"] * (kind == "qwen2_5_omni")
    real, shape, work = saved(wider[kind], dtype, autocast, rank, checkpointing, freeze)
    planned = activations.language(shape, work, mask=True)
    if checkpointing:
        planned -= activations.language_layer(shape, work, mask=True)
    assert planned == pytest.approx(real, rel=0.07)


def test_activations_of_a_vision_tower_that_learns(wider: dict[str, Path]) -> None:
    """To 7 % as well."""
    real, shape, work = saved(wider["qwen2_5_vl"], "float32", False, 0, False, [])
    frozen, *_ = saved(wider["qwen2_5_vl"], "float32", False, 0, False, ["vision", "connector"])
    assert activations.towers(shape, work) == pytest.approx(real - frozen, rel=0.07)


def saved(
    folder: Path, dtype: str, autocast: bool, rank: int, checkpointing: bool, freeze: list[str]
) -> tuple[int, Shape, Work]:
    """(bytes of the storages that autograd saves of a packed forward, parameters left out, shape, work)."""
    model: Any
    model, _, _ = load(folder, dtype=dtype, freeze=freeze)
    shape = shape_of(model, LoraRecipe(r=rank) if rank else None)
    prompt, told = prompt_of(folder, model.config)
    places = prompt_positions(model, prompt)
    if rank:
        model = get_peft_model(model, lora_config(model, rank))
    model.train()
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    work = work_for(
        told, shape, checkpointing=checkpointing, autocast=autocast, width=2 if autocast else shape.itemsize
    )
    answers = [text_tokens(prompt, C, seed) for seed in range(G)]
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}
    alive = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        alive.append(tensor)  # an address that is free again would be counted once for two
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=autocast),
    ):
        out = model(packed=pack([prompt], [answers], [places]))["logps"]
    assert out.requires_grad
    return sum(kept.values()), shape, work
