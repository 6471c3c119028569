"""The phases of a GRPO step on one group, packed as avst computes it and repeated as others do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from transformers import PreTrainedModel

from avst.models.features import embed, media_features, modalities
from avst.models.logprobs import plain_logps, token_logps
from avst.models.packing import PackedRow, pack
from avst.types import Prompt
from scripts.gpu.clock import Clock, Fields
from scripts.gpu.shapes import linear_parameters


def row_of(prompt: Prompt, answers: int, tokens: int) -> PackedRow:
    """One group: `answers` random completions of `tokens`."""
    generator = torch.Generator().manual_seed(1)
    completions = torch.randint(1, 400, (answers, tokens), generator=generator).tolist()
    return pack([prompt], [completions], [prompt.positions])


def phases(
    model: PreTrainedModel, prompt: Prompt, answers: int, tokens: int, clock: Clock, tflops: float | None
) -> Iterator[tuple[str, Fields]]:
    """(name, figures) of each phase. The towers are frozen, as in the recipes; their features are made once a clip."""
    row = row_of(prompt, answers, tokens).to(model.device)
    size = len(prompt.input_ids)

    def features() -> None:
        prompt.features.clear()
        with torch.no_grad():
            for modality in modalities(prompt):
                media_features(model, prompt, modality)

    yield "tower features, once a clip", clock.measure(features)

    @torch.no_grad()
    def reference() -> Any:
        return model(packed=row)

    yield "reference forward, packed", clock.measure(reference)
    packed = clock.measure(lambda: _train(model, lambda: model(packed=row)["logps"]))
    flops = training_flops(model, size, answers, tokens)
    if tflops:
        packed["model_flops_utilisation"] = flops / packed["seconds"] / (tflops * 1e12)
    yield "policy forward and backward, packed", packed | {"model_flops": flops}
    clock.free()
    repeated = clock.measure(lambda: _train(model, lambda: _one_row(model, prompt, row, tokens)))
    repeated["seconds"] *= answers  # one row after the other: the rows are alike
    yield "policy forward and backward, repeated (one row x G)", repeated
    yield (
        "repeated / packed",
        {
            "ratio": repeated["seconds"] / packed["seconds"],
            "ideal": answers * (size + tokens) / (size + answers * tokens),
        },
    )


def _train(model: PreTrainedModel, logps: Any) -> None:
    model.train()
    logps().sum().backward()
    model.zero_grad(set_to_none=True)
    model.eval()


def _one_row(model: PreTrainedModel, prompt: Prompt, row: PackedRow, tokens: int) -> torch.Tensor:
    """[prompt | first answer] through the language model as everybody calls it; the head on the answer alone."""
    size = len(prompt.input_ids)
    ids = row.input_ids[:, : size + tokens]
    hidden = model.model.language_model(
        inputs_embeds=embed(model, ids, [(0, prompt)]),
        position_ids=row.position_ids[..., : size + tokens],
        use_cache=False,
    ).last_hidden_state
    return token_logps(hidden[0, size - 1 : -1], ids[0, size:], model.lm_head)[0]


def training_flops(model: PreTrainedModel, prompt: int, answers: int, tokens: int) -> float:
    """Model FLOPs of the packed row: 2 a weight and token, attention 4·width a pair of query and key (two products),
    the head on answers alone; the backward costs twice the forward. What checkpointing computes again does not count.
    """
    config = model.config.get_text_config()
    width, layers = config.hidden_size, config.num_hidden_layers
    row = prompt + answers * tokens
    pairs = prompt * (prompt + 1) / 2 + answers * (tokens * prompt + tokens * (tokens + 1) / 2)
    forward = (
        2 * linear_parameters(model) * row
        + 4 * width * layers * pairs
        + 2 * width * config.vocab_size * answers * tokens
    )
    return 3 * forward


def heads(model: PreTrainedModel, tokens: int, clock: Clock) -> Iterator[tuple[str, Fields]]:
    """Log-probs of so many answer tokens, forward and backward: all logits at once, and by pieces."""
    width, words = model.lm_head.weight.shape[1], model.lm_head.weight.shape[0]
    states = torch.randn(tokens, width, device=model.device, dtype=model.dtype, requires_grad=True)
    targets = torch.randint(0, words, (tokens,), device=model.device)
    for name, function in (("plain", plain_logps), ("pieces", token_logps)):

        def once(function: Any = function) -> None:
            states.grad = model.lm_head.weight.grad = None
            function(states, targets, model.lm_head, 1.0)[0].sum().backward()

        yield f"head, {name}", clock.measure(once)
        states.grad = model.lm_head.weight.grad = None
        clock.free()
