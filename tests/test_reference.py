"""The reference is the policy as the run began, also where the run goes on from trained adapters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model

from avst.models.families import prompt_positions, unwrapped
from avst.models.loading import load, lora_config
from avst.models.packing import PackedRow, pack
from avst.reference import Reference
from tests.tiny_world import load_grouped, make_builder, make_question, text_tokens


@pytest.fixture
def adapters(tiny_folders: dict[str, Path], tmp_path: Path) -> Path:
    """A checkpoint of adapters that say something."""
    model: Any = load_grouped(tiny_folders["qwen2_5_vl"])
    model = get_peft_model(model, lora_config(model, r=2, dropout=0.5))
    move(model)
    model.save_pretrained(tmp_path)
    return tmp_path


def move(model: torch.nn.Module) -> None:
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn_like(parameter)


def a_row(model: Any, folder: Path) -> PackedRow:
    prompt = make_builder(folder).build_text(make_question())
    return pack([prompt], [[text_tokens(prompt, 4, 0)]], [prompt_positions(unwrapped(model), prompt)])


def test_loaded_adapters_train_and_are_their_own_reference(tiny_folders: dict[str, Path], adapters: Path) -> None:
    model, _, _ = load(adapters, dtype="float32")
    assert isinstance(model, PeftModel)
    trainable = [name for name, p in model.named_parameters() if p.requires_grad]
    assert trainable
    assert all("lora_" in name for name in trainable)
    reference, row = Reference(model, new_adapters=False), a_row(model, tiny_folders["qwen2_5_vl"])

    def policy() -> torch.Tensor:
        model.eval()
        with torch.no_grad():
            found = model(packed=row)["logps"]
        model.train()
        return found

    begun = policy()
    torch.testing.assert_close(reference.logps(model, model, row, 1.0), begun, rtol=0, atol=0)
    move(model)
    moved = policy()
    torch.testing.assert_close(reference.logps(model, model, row, 1.0), begun, rtol=0, atol=0)
    torch.testing.assert_close(policy(), moved, rtol=0, atol=0)
    assert model.training
    assert [name for name, p in model.named_parameters() if p.requires_grad] == trainable
    with torch.no_grad(), model.disable_adapter():
        bare = model(packed=row)["logps"]
    assert min((begun - moved).abs().max(), (begun - bare).abs().max()) > 1e-4
