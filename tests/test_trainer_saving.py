"""What a run leaves behind loads again as an ordinary checkpoint, whole or as adapters."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from avst.models.loading import load, lora_config
from tests.grpo_world import QUESTIONS, clip_rows, given_answers, logged, make_trainer, weights
from tests.tiny_world import plain_logps


def test_lora_run(tiny_folders: dict[str, Path], tmp_path: Path) -> None:
    """KL is measured against the model without its adapters; only adapters train; what is saved loads again."""
    folder = tiny_folders["qwen2_5_omni"]
    model, processor, _ = load(folder, dtype="float32")
    rows = clip_rows(folder)
    trainer = make_trainer(
        folder,
        tmp_path / "out",
        rows,
        model=model,
        peft_config=lora_config(model, r=4),
        beta=0.04,
        max_steps=3,
        learning_rate=0.5,
        processing_class=processor,
    )
    before = weights(trainer)
    assert trainer.reference is not None
    assert trainer.reference.model is None, "adapters off is a reference; no copy is kept"
    trainer.train()
    after = weights(trainer)
    assert {name for name in before if not torch.equal(before[name], after[name])} == {
        n for n in before if "lora_" in n
    }
    assert logged(trainer, "kl")[0] == pytest.approx(0, abs=1e-9)
    assert logged(trainer, "kl")[-1] > 1e-6
    trainer.save_model(str(tmp_path / "final"))
    assert not (tmp_path / "final" / "model.safetensors").exists()
    again, _, family = load(tmp_path / "final", dtype="float32")
    assert family.hears
    answer = given_answers(QUESTIONS[0])[0]
    with torch.no_grad():
        ours, theirs, bare = (
            plain_logps(m.eval(), rows[0], answer) for m in (trainer.model, again, load(folder, dtype="float32")[0])
        )
    torch.testing.assert_close(ours, theirs)
    assert (ours - bare).abs().max() > 1e-4


def test_full_run_saves_an_ordinary_checkpoint(tiny_folders: dict[str, Path], tmp_path: Path) -> None:
    folder = tiny_folders["qwen2_5_omni"]
    model, processor, _ = load(folder, dtype="float32")
    rows = clip_rows(folder)
    trainer = make_trainer(folder, tmp_path / "out", rows, model=model, max_steps=2, processing_class=processor)
    trainer.train()
    trainer.save_model(str(tmp_path / "final"))
    again, processor_again, _ = load(tmp_path / "final", dtype="float32")
    assert processor_again.tokenizer.get_vocab() == processor.tokenizer.get_vocab()
    answer = given_answers(QUESTIONS[0])[0]
    with torch.no_grad():
        ours, theirs = (plain_logps(m.eval(), rows[0], answer) for m in (trainer.model, again))
        bare = plain_logps(load(folder, dtype="float32")[0].eval(), rows[0], answer)
    assert torch.equal(ours, theirs)
    assert (ours - bare).abs().max() > 1e-4
