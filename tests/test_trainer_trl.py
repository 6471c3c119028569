"""One step of avst.trainer.GRPOTrainer against TRL's own trainer on the same text batch: loss, gradient, advantages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoProcessor

from tests.grpo_world import QUESTIONS, G, given_answers, make_trainer, micro_batches, perturb, sevenths
from tests.tiny_world import load_plain, make_builder
from tests.trl_reference import flat_logps, make_trl_trainer, trl_inputs

VARIANTS: dict[str, dict[str, Any]] = {
    "grpo": {"loss_type": "grpo"},
    "dr_grpo": {"loss_type": "dr_grpo"},
    "dapo": {"loss_type": "dapo"},
    "bnpo": {"loss_type": "bnpo"},
    "cispo": {"loss_type": "cispo", "epsilon_high": 1.1},
    "sequence": {"loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon": 0.01},
    "top entropy": {"loss_type": "dapo", "top_entropy_quantile": 0.4},
    "clipped, without truncated": {
        "loss_type": "dapo",
        "epsilon": 0.05,
        "epsilon_high": 0.1,
        "mask_truncated_completions": True,
        "temperature": 0.8,
    },
}


def trl_advantages(totals: Tensor) -> Tensor:
    """TRL's arithmetic of scale_rewards="group", (rewards - mean) / (std + 1e-4), by hand."""
    rows = totals.view(-1, G)
    return ((rows - rows.mean(1, keepdim=True)) / (rows.std(1, keepdim=True) + 1e-4)).flatten()


@pytest.mark.parametrize("iterations", [1, 2])
@pytest.mark.parametrize("beta", [0.0, 0.04])
@pytest.mark.parametrize("variant", VARIANTS)
def test_loss_and_gradient_equal_trl(
    tiny_folders: dict[str, Path], tmp_path: Path, variant: str, beta: float, iterations: int
) -> None:
    """Two prompts of three answers. The policy has moved away from its reference (so KL is not 0) and, at the second
    iteration, from the policy that sampled."""
    folder = tiny_folders["qwen2_5_vl"]
    options = {**VARIANTS[variant], "beta": beta, "num_iterations": iterations, "per_device_train_batch_size": 2 * G}
    builder = make_builder(folder)
    prompts = [builder.build_text(question) for question in QUESTIONS[:2]]
    ours = make_trainer(folder, tmp_path / "ours", prompts, builder=builder, **options)
    trl = make_trl_trainer(
        load_plain(folder), AutoProcessor.from_pretrained(folder).tokenizer, tmp_path, **options, num_generations=G
    )
    trl.model.train()
    trl.current_gradient_accumulation_steps = 1
    answers = [answer for question in QUESTIONS[:2] for answer in given_answers(question)]
    repeated = [p.input_ids.tolist() for p in prompts for _ in range(G)]
    temperature = ours.args.temperature

    def by_answer() -> list[list[float]]:
        with torch.no_grad():
            logps, _, index = flat_logps(trl.model, repeated, answers, temperature)
        return [logps[index == i].tolist() for i in range(len(answers))]

    reference = by_answer()
    for model in (ours.model, trl.model):
        perturb(model, seed=1)
    (micro,) = micro_batches(ours, [prompts])
    loss, old = ours.compute_loss(ours.model, micro), None
    if iterations == 2:
        old = by_answer()
        for model in (ours.model, trl.model):
            perturb(model, seed=2)
        loss = ours.compute_loss(ours.model, micro)
    totals = torch.tensor(sevenths(None, None, answers), dtype=torch.float64)
    inputs = trl_inputs(
        repeated,
        answers,
        trl_advantages(totals),
        old_logps=old,
        ref_logps=reference,
        truncated=[len(a) >= 5 for a in answers] if options.get("mask_truncated_completions") else None,
    )
    theirs = trl._compute_loss(trl.model, inputs)
    torch.testing.assert_close(loss, theirs, rtol=1e-6, atol=1e-9)
    loss.backward()
    theirs.backward()
    grads = {name: p.grad for name, p in ours.model.named_parameters() if p.grad is not None}
    wanted = {name: p.grad for name, p in trl.model.named_parameters() if p.grad is not None}
    assert grads.keys() == wanted.keys()
    difference = torch.stack([(grads[name] - wanted[name]).norm() for name in wanted]).norm()
    whole = torch.stack([g.norm() for g in wanted.values()]).norm()
    assert whole > 1e-4
    assert difference <= 1e-6 * whole
