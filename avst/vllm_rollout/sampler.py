"""What the trainer calls: the policy's weights over to vLLM, prompts out, answers checked, groups back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from avst.errors import AvstError
from avst.types import Group, Prompt
from avst.vllm_rollout.engine import Drawing, Engine, Reply
from avst.vllm_rollout.weights import PolicyWeights


class VllmSampler:
    """Draws groups with a vLLM.

    engine: how it is reached;  drawing: how answers are drawn;  vocabulary: how many tokens the policy knows;
    processes: accelerate's, of the run.
    """

    elsewhere = True

    def __init__(self, engine: Engine, drawing: Drawing, vocabulary: int, processes: Any) -> None:
        self.engine, self.drawing, self.vocabulary, self.processes = engine, drawing, vocabulary, processes
        self.step: int | None = None

    def follow(self, policy: nn.Module, step: int) -> None:
        """The weights, once an optimizer step. Where the processes share one vLLM, the main one gives them and the
        others wait: none may sample from the old ones."""
        if step == self.step:
            return
        if not self.engine.shared or self.processes.is_main_process:
            weights = PolicyWeights(policy)
            self.engine.load(weights.all() if self.step is None else weights.trained())
        if self.engine.shared:
            self.processes.wait_for_everyone()
        self.step = step

    def rest(self) -> None:
        self.engine.rest()

    def sample(self, model: Any, prompts: Sequence[Prompt]) -> list[Group]:
        """A request a prompt, with a seed from this process's random state, so that a resumed run asks the same."""
        seeds = torch.randint(2**31 - 1, (len(prompts),)).tolist()
        replies = self.engine.generate(prompts, seeds, self.drawing)
        return [self._group(prompt, reply) for prompt, reply in zip(prompts, replies, strict=True)]

    def _group(self, prompt: Prompt, reply: Reply) -> Group:
        where = f"{self.engine.where}: {prompt.question.id}"
        _same_prompt(where, prompt.input_ids.reshape(-1).tolist(), reply.prompt_ids)
        if len(reply.token_ids) != self.drawing.n or len(reply.logps) != self.drawing.n:
            raise AvstError(f"{where}: {len(reply.token_ids)} answers came back, {self.drawing.n} were asked for")
        truncated = []
        for ids, logps in zip(reply.token_ids, reply.logps, strict=True):
            if not ids or len(ids) != len(logps):
                raise AvstError(f"{where}: an answer of {len(ids)} tokens came with {len(logps)} log-probs")
            if strange := [token for token in ids if not 0 <= token < self.vocabulary]:
                raise AvstError(
                    f"{where}: token {strange[0]} is not among this model's {self.vocabulary}: another model answered"
                )
            if unknown := [logp for logp in logps if not (math.isfinite(logp) and logp <= 1e-3)]:
                raise AvstError(f"{where}: {unknown[0]} came back as the log-prob of a token")
            truncated.append(ids[-1] not in self.drawing.end_ids)
        return Group(prompt, reply.token_ids, reply.logps, truncated)


def _same_prompt(where: str, ours: list[int], theirs: list[int]) -> None:
    if ours == theirs:
        return
    place = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs)))
    a, b = (str(ids[place]) if place < len(ids) else "nothing" for ids in (ours, theirs))
    raise AvstError(
        f"{where}: vLLM made {len(theirs)} tokens of the prompt and the trainer {len(ours)}, which first differ at "
        f"{place} ({b}, {a} here): another checkpoint's processor, or another version of transformers there"
    )
