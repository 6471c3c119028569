"""Rollout: G answers a prompt, all prompts of an optimizer step at once.

Each prompt is prefilled once and alone (no padding, and the features of frozen towers come from the prompt); its
cache is then padded on the left to the longest prompt, repeated G times, and the library's own `generate` goes on
from there, for all prompts together. Decoding is bound by memory bandwidth, so the larger batch is nearly free.

What differs from a plain `generate(num_return_sequences=G)`: no prompt is computed G times, and prompts of different
length share one decode loop. Greedy answers are the same token by token (tests/test_rollout.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    DynamicCache,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    RepetitionPenaltyLogitsProcessor,
)

from avst.errors import AvstError
from avst.models.families import prompt_positions, unwrapped
from avst.models.features import embed
from avst.types import Group, Prompt


@dataclass(frozen=True, slots=True)
class Sampling:
    """How answers are drawn; the names and meanings are TRL's and transformers'.

    max_new_tokens: longest completion;  temperature 0 is greedy;  top_k 0 and top_p 1.0 are off.
    """

    max_new_tokens: int = 1024
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float | None = None
    repetition_penalty: float = 1.0

    def generation_config(self, end_ids: Sequence[int], pad_id: int) -> GenerationConfig:
        """All but the repetition penalty, which `processors` apply behind the recorder."""
        greedy = self.temperature == 0
        return GenerationConfig(
            max_new_tokens=self.max_new_tokens,
            do_sample=not greedy,
            temperature=None if greedy else self.temperature,
            top_p=None if greedy else self.top_p,
            top_k=None if greedy else self.top_k,
            min_p=None if greedy else self.min_p,
            repetition_penalty=1.0,
            eos_token_id=list(end_ids),
            pad_token_id=pad_id,
            bos_token_id=None,
        )

    def processors(self, recorder: LogitsProcessor) -> LogitsProcessorList:
        """What sees the scores before temperature, top-k, top-p and min-p do."""
        found = LogitsProcessorList([recorder])
        if self.repetition_penalty != 1.0:
            found.append(RepetitionPenaltyLogitsProcessor(self.repetition_penalty))
        return found


def end_tokens(model: nn.Module, tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], int]:
    """(ids that end an answer, padding id): the tokenizer's and those the checkpoint's generation config adds."""
    ends = [tokenizer.eos_token_id]
    extra = getattr(unwrapped(model).generation_config, "eos_token_id", None)
    ends += extra if isinstance(extra, list) else [extra]
    known = sorted({token for token in ends if token is not None})
    if not known:
        raise AvstError("the tokenizer names no end token, so no answer could ever end")
    pad = tokenizer.pad_token_id
    return known, known[0] if pad is None else pad


class _Recorder(LogitsProcessor):
    """Keeps the log-prob of each drawn token under the policy at its temperature, before penalties and any truncation
    by top-k or top-p: the quantity that the training forward computes, so that the two can be compared."""

    def __init__(self, prompt_len: int, temperature: float) -> None:
        self.prompt_len, self.temperature = prompt_len, temperature or 1.0
        self.pending: Tensor | None = None
        self.steps: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if self.pending is not None:
            self._take(input_ids[:, -1])
        self.pending = (scores / self.temperature).log_softmax(-1)
        return scores

    def _take(self, tokens: Tensor) -> None:
        assert self.pending is not None
        self.steps.append(self.pending.gather(-1, tokens[:, None]).squeeze(-1))

    def logps(self, sequences: Tensor) -> Tensor:
        """(rows, steps), after generation has ended."""
        drawn = sequences[:, self.prompt_len :]
        if len(self.steps) < drawn.shape[1]:
            self._take(drawn[:, len(self.steps)])
        return torch.stack(self.steps, dim=1)[:, : drawn.shape[1]]


@torch.no_grad()
def rollout(
    model: PreTrainedModel,
    prompts: Sequence[Prompt],
    num_generations: int,
    sampling: Sampling,
    end_ids: Sequence[int],
    pad_id: int,
) -> list[Group]:
    """One Group a prompt, each with `num_generations` completions, in the order of `prompts`.

    model: the unwrapped transformers model, in evaluation mode;  end_ids: tokens that end an answer (kept in the
    completion, so that the policy learns to stop);  pad_id: fills ended rows and is never part of a completion.
    """
    caches = [_prefill(model, prompt) for prompt in prompts]
    sizes = [int(p.input_ids.numel()) for p in prompts]
    longest = max(sizes)
    cache = _stack(caches, [longest - 1 - (size - 1) for size in sizes], model)
    del caches
    cache.batch_repeat_interleave(num_generations)

    def left(rows: list[Tensor], repeat_first: bool = False) -> Tensor:
        padded = []
        for row in rows:
            fill = int(row[0]) if repeat_first else 0
            padded.append(torch.nn.functional.pad(row, (longest - row.shape[-1], 0), value=fill))
        return torch.stack(padded, dim=-2).repeat_interleave(num_generations, dim=-2).to(model.device)

    recorder = _Recorder(longest, sampling.temperature)
    generate: Any = model.generate  # the class says it only of models that know they generate
    with _own_settings(model):
        sequences = generate(
            # filled with a token of the prompt itself: a repetition penalty must not fall on the padding token
            input_ids=left([p.input_ids.reshape(-1) for p in prompts], repeat_first=True),
            attention_mask=left([torch.ones(size, dtype=torch.long) for size in sizes]),
            position_ids=left([prompt_positions(model, p) for p in prompts]),
            past_key_values=cache,
            generation_config=sampling.generation_config(end_ids, pad_id),
            logits_processor=sampling.processors(recorder),
        )
    assert isinstance(sequences, Tensor)
    drawn = sequences[:, longest:].cpu()
    logps = recorder.logps(sequences).cpu()
    return [
        _group(prompt, drawn[i : i + num_generations], logps[i : i + num_generations], set(end_ids))
        for prompt, i in zip(prompts, range(0, len(drawn), num_generations), strict=True)
    ]


@contextmanager
def _own_settings(model: PreTrainedModel) -> Iterator[None]:
    """`generate` fills what a call leaves unset from the checkpoint's generation config (a penalty, a minimal length);
    answers are drawn by the recipe's settings alone."""
    theirs = model.generation_config
    model.generation_config = GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = theirs


def _prefill(model: PreTrainedModel, prompt: Prompt) -> DynamicCache:
    """Cache of all prompt tokens but the last, which `generate` takes as its first step."""
    ids = prompt.input_ids.reshape(1, -1).to(model.device)
    embeds = embed(model, ids, [(0, prompt)])[:, :-1]
    positions = prompt_positions(model, prompt)[:, None, :-1].to(model.device)
    cache = DynamicCache(config=model.config.get_text_config())
    model.model.language_model(inputs_embeds=embeds, position_ids=positions, past_key_values=cache, use_cache=True)
    return cache


def _stack(caches: list[DynamicCache], missing: list[int], model: PreTrainedModel) -> DynamicCache:
    """One cache with a row a prompt, padded on the left with zeros (masked out by the attention mask)."""

    def rows(states: list[Tensor]) -> Tensor:
        return torch.cat([torch.nn.functional.pad(s, (0, 0, m, 0)) for s, m in zip(states, missing, strict=True)])

    stacked = DynamicCache(config=model.config.get_text_config())
    for index, layers in enumerate(zip(*(cache.layers for cache in caches), strict=True)):
        stacked.update(rows([layer.keys for layer in layers]), rows([layer.values for layer in layers]), index)
    return stacked


def _group(prompt: Prompt, drawn: Tensor, logps: Tensor, end_ids: set[int]) -> Group:
    completions, sampled, truncated = [], [], []
    for tokens, scores in zip(drawn.tolist(), logps.tolist(), strict=True):
        ends = next((i for i, token in enumerate(tokens) if token in end_ids), None)
        length = len(tokens) if ends is None else ends + 1
        completions.append(tokens[:length])
        sampled.append(scores[:length])
        truncated.append(ends is None)
    return Group(prompt, completions, sampled, truncated)
