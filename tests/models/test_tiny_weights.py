"""The first weights of a tiny model that is to learn: layers keep sizes, near numbers are alike, numbers are tokens."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from avst.models.loading import load
from avst.models.tiny import make_tiny
from avst.models.tiny_kinds import KINDS
from avst.models.tiny_tokenizer import train_tokenizer

NUMBERS = 160


@pytest.fixture(scope="module")
def model_and_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> tuple[torch.nn.Module, object]:
    folder = make_tiny("qwen2_5_omni", tmp_path_factory.mktemp("tiny"), numbers=NUMBERS, ready_to_learn=True)
    model, processor, _ = load(folder, dtype="float32")
    return model, processor.tokenizer


def test_whole_numbers_are_one_token_each_and_come_back() -> None:
    plain, numbered = (train_tokenizer(KINDS["qwen2_5_omni"], numbers=n) for n in (0, NUMBERS))
    text = "12.5: [7, 48, 111, 159] 160 1280"
    assert plain.tokenize("48") == ["4", "8"]
    for number in (0, 9, 10, 48, 99, 100, 159):
        assert numbered.tokenize(str(number)) == [str(number)]
    assert numbered.tokenize("1280") == ["128", "0"]
    ids = numbered(text, add_special_tokens=False)["input_ids"]
    assert numbered.decode(ids) == text
    assert len(numbered) == len(plain) + NUMBERS - 10


def test_layers_keep_the_size_of_their_input(model_and_tokenizer: tuple[torch.nn.Module, object]) -> None:
    """A layer that adds to the residual stream makes it smaller by √(2·layers), here √8."""
    model, _ = model_and_tokenizer
    modules = dict(model.named_modules())
    draws = torch.Generator().manual_seed(1)
    block = next(name for name in modules if name.endswith("language_model.layers.0"))
    for name, expected in (("mlp.gate_proj", 1.0), ("self_attn.q_proj", 1.0), ("mlp.down_proj", 8**-0.5)):
        layer = modules[f"{block}.{name}"]
        there = torch.randn(4096, layer.in_features, generator=draws) @ layer.weight.detach().T
        assert there.std().item() == pytest.approx(expected, rel=0.03), name


def test_near_numbers_start_alike_and_far_ones_do_not(model_and_tokenizer: tuple[torch.nn.Module, object]) -> None:
    model, tokenizer = model_and_tokenizer
    ids = tokenizer.convert_tokens_to_ids([str(n) for n in range(NUMBERS)])
    for weight in (model.get_input_embeddings().weight, model.get_output_embeddings().weight):
        rows = torch.nn.functional.normalize(weight.detach()[ids], dim=1)
        cosines = rows @ rows.T
        mean_at = [cosines.diagonal(distance).mean().item() for distance in (1, 4, 20, 70)]
        assert mean_at[0] > 0.8 > mean_at[1] > mean_at[2] > mean_at[3]
        assert abs(mean_at[3]) < 0.35


def test_the_same_seed_draws_the_same(tmp_path: Path) -> None:
    def weights(name: str, seed: int) -> dict[str, torch.Tensor]:
        torch.rand(3)  # whatever was drawn before
        folder = make_tiny("qwen2_5_vl", tmp_path / name, numbers=20, ready_to_learn=True, seed=seed)
        return load(folder, dtype="float32")[0].state_dict()

    one, again, other = weights("a", 0), weights("b", 0), weights("c", 1)
    assert all(torch.equal(one[key], again[key]) for key in one)
    assert not torch.equal(one["lm_head.weight"], other["lm_head.weight"])
