"""Rollout: G answers a prompt, all prompts of an optimizer step at once.

Each prompt is prefilled once and alone (no padding, and the features of frozen towers come from the prompt). Then the
library's own `generate` goes on for all answers of all prompts together, over a cache that holds every prompt once
(avst.models.shared_cache). Decoding is bound by memory bandwidth, so the larger batch is nearly free. Answers that have
ended leave the batch when half of it has: `generate` stops, and goes on with the others.

What differs from a plain `generate(num_return_sequences=G)`: no prompt is computed or kept G times, and prompts of
different length share one decode loop. Greedy answers are the same token by token (tests/test_rollout.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
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
    StoppingCriteria,
    StoppingCriteriaList,
)

from avst.errors import AvstError
from avst.models.families import prompt_positions, unwrapped
from avst.models.features import embed
from avst.models.shared_cache import RepeatedCache, SharedCache
from avst.rollout_options import RolloutOptions
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

    @property
    def only_temperature(self) -> bool:
        """No token is cut off or made less likely."""
        return self.top_p == 1.0 and not self.top_k and not self.min_p and self.repetition_penalty == 1.0

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

    def __init__(self, drawn_from: int, temperature: float) -> None:
        """drawn_from: length of the sequences before the first token is drawn."""
        self.drawn_from, self.temperature = drawn_from, temperature or 1.0
        self.scores: Tensor | None = None
        self.steps: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if self.scores is not None:
            self._take(input_ids[:, -1])
        self.scores = scores
        return scores

    def _take(self, tokens: Tensor) -> None:
        assert self.scores is not None
        scores = self.scores if self.temperature == 1.0 else self.scores / self.temperature
        self.steps.append(scores.gather(-1, tokens[:, None]).squeeze(-1) - scores.logsumexp(-1))

    def logps(self, sequences: Tensor) -> Tensor:
        """(rows, steps), after generation has ended."""
        drawn = sequences[:, self.drawn_from :]
        if len(self.steps) < drawn.shape[1]:
            self._take(drawn[:, len(self.steps)])
        return torch.stack(self.steps, dim=1)[:, : drawn.shape[1]]


class _HalfHaveEnded(StoppingCriteria):
    """Stops the whole batch once half of its answers have ended; the rest then goes on without them."""

    def __init__(self, end_ids: Sequence[int], rows: int, device: torch.device) -> None:
        self.end_ids = torch.tensor(list(end_ids), device=device)
        self.ended = torch.zeros(rows, dtype=torch.bool, device=device)

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        self.ended |= torch.isin(input_ids[:, -1], self.end_ids)
        return (2 * self.ended.sum() >= len(self.ended)).expand(len(self.ended))  # no wait for the device


@torch.no_grad()
def rollout(
    model: PreTrainedModel,
    prompts: Sequence[Prompt],
    num_generations: int,
    sampling: Sampling,
    end_ids: Sequence[int],
    pad_id: int,
    options: RolloutOptions | None = None,
) -> list[Group]:
    """One Group a prompt, each with `num_generations` completions, in the order of `prompts`.

    model: the unwrapped transformers model, in evaluation mode;  end_ids: tokens that end an answer (kept in the
    completion, so that the policy learns to stop);  pad_id: fills ended rows and is never part of a completion;
    options: what is shared, what is dropped and how many rows are decoded together.
    """
    options = options or RolloutOptions()
    at_once = len(prompts) if options.max_rows is None else max(1, options.max_rows // num_generations)
    groups: list[Group] = []
    for start in range(0, len(prompts), at_once):
        some = prompts[start : start + at_once]
        answers = _Decoding(model, some, num_generations, options.share_prompts)
        answers.run(sampling, end_ids, pad_id, options.drop_finished)
        groups += [
            _group(prompt, answers.drawn[i : i + num_generations], answers.logps[i : i + num_generations], set(end_ids))
            for prompt, i in zip(some, range(0, len(answers.drawn), num_generations), strict=True)
        ]
    return groups


class _Decoding:
    """The answers of some prompts while they are written.

    drawn, logps: a list a row (answer) of the tokens drawn so far and their log-probs; padding behind an end included.
    """

    def __init__(self, model: PreTrainedModel, prompts: Sequence[Prompt], answers: int, share: bool) -> None:
        self.model = model
        sizes = [int(p.input_ids.numel()) for p in prompts]
        self.longest = max(sizes)
        caches = [_prefill(model, prompt) for prompt in prompts]
        before_last = [size - 1 for size in sizes]
        self.cache = (SharedCache if share else RepeatedCache).of(caches, before_last, answers)

        def left(rows: list[Tensor], repeat_first: bool = False) -> Tensor:
            padded = []
            for row in rows:
                fill = int(row[0]) if repeat_first else 0
                padded.append(torch.nn.functional.pad(row, (self.longest - row.shape[-1], 0), value=fill))
            return torch.stack(padded, dim=-2).repeat_interleave(answers, dim=-2).to(model.device)

        # filled with a token of the prompt itself: a repetition penalty must not fall on the padding token
        self.sequences = left([p.input_ids.reshape(-1) for p in prompts], repeat_first=True)
        self.mask = left([torch.ones(size, dtype=torch.long) for size in sizes])
        self.positions = left([prompt_positions(model, p) for p in prompts])
        self.rows = list(range(len(self.sequences)))  # the answers that are still written
        self.drawn: list[list[int]] = [[] for _ in self.rows]
        self.logps: list[list[float]] = [[] for _ in self.rows]

    def run(self, sampling: Sampling, end_ids: Sequence[int], pad_id: int, drop_finished: bool) -> None:
        """Until every answer has ended or is max_new_tokens long."""
        left = sampling.max_new_tokens
        while self.rows and left > 0:
            halt = _HalfHaveEnded(end_ids, len(self.rows), self.model.device)
            drop = drop_finished and len(self.rows) > 1
            some = replace(sampling, max_new_tokens=left)
            left -= self._write(some, end_ids, pad_id, StoppingCriteriaList([halt] if drop else []))
            if not drop:
                return
            self._drop(halt.ended.cpu())

    def _write(self, sampling: Sampling, end_ids: Sequence[int], pad_id: int, halt: StoppingCriteriaList) -> int:
        """Draw tokens for all rows until `generate` stops; returns how many for each."""
        before = self.sequences.shape[1]
        recorder = _Recorder(before, sampling.temperature)
        generate: Any = self.model.generate  # the class says it only of models that know they generate
        with _own_settings(self.model):
            self.sequences = generate(
                input_ids=self.sequences,
                attention_mask=self.mask,
                position_ids=self.positions,
                past_key_values=self.cache,
                generation_config=sampling.generation_config(end_ids, pad_id),
                logits_processor=sampling.processors(recorder),
                stopping_criteria=halt,
            )
        tokens = self.sequences[:, before:]
        drawn, logps = tokens.tolist(), recorder.logps(self.sequences).tolist()
        for row, ids, scores in zip(self.rows, drawn, logps, strict=True):
            self.drawn[row] += ids
            self.logps[row] += scores
        new = tokens.shape[1]
        behind = torch.arange(1, new + 1, device=self.positions.device)
        self.positions = torch.cat([self.positions, self.positions[..., -1:] + behind], dim=-1)
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(self.mask), new)], dim=-1)
        return new

    def _drop(self, ended: Tensor) -> None:
        going = (~ended).nonzero().squeeze(1)
        self.rows = [self.rows[row] for row in going.tolist()]
        if not self.rows:
            return
        self.cache.keep(going)
        going = going.to(self.sequences.device)
        self.sequences, self.mask = self.sequences[going], self.mask[going]
        self.positions = self.positions[:, going]


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


def _group(prompt: Prompt, drawn: list[list[int]], logps: list[list[float]], end_ids: set[int]) -> Group:
    completions, sampled, truncated = [], [], []
    for tokens, scores in zip(drawn, logps, strict=True):
        ends = next((i for i, token in enumerate(tokens) if token in end_ids), None)
        length = len(tokens) if ends is None else ends + 1
        completions.append(tokens[:length])
        sampled.append(scores[:length])
        truncated.append(ends is None)
    return Group(prompt, completions, sampled, truncated)
