"""Memory and time of one GRPO step on this machine, before a run: by avst.plan's formulae, or by measuring a forward
and backward."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from avst.config import Recipe
from avst.models.families import prompt_positions
from avst.models.packing import pack
from avst.plan.cards import Card, Machines
from avst.plan.memory import Memory, memory
from avst.plan.seconds import Seconds, seconds
from avst.plan.shape import Shape, shape_of
from avst.plan.tokens import PromptShape
from avst.plan.work import Work, groups, work_of
from avst.preview.look import Look


@dataclass(frozen=True, slots=True)
class Estimate:
    """One card's step. seconds: on the card that was measured here."""

    shape: Shape
    work: Work
    memory: Memory
    seconds: Seconds
    card: Card

    def as_json(self) -> dict[str, Any]:
        return {
            "parameters": self.shape.parameters,
            "trainable": self.shape.trainable,
            "tokens": self.work.tokens,
            **self.memory.as_json(),
            "seconds": self.seconds.as_json(),
        }


def estimate(recipe: Recipe, model: Any, prompts: Sequence[PromptShape], card: Card) -> Estimate:
    """The longest of the prompts stands for all; every answer is taken to have max_completion_length tokens."""
    shape = shape_of(model, recipe.model.lora)
    work = work_of(recipe, shape.itemsize, max(prompts, key=lambda prompt: prompt.total))
    machine = Machines("this machine", card, 1, 1)
    need = memory(shape, work, cpu=not card.asynchronous, room=card.room)
    return Estimate(shape, work, need, seconds(shape, work, machine), card)


def measure(recipe: Recipe, model: Any, look: Look) -> dict[str, float]:
    """One packed forward and backward of the question with G answers of C tokens: {"seconds", "peak_bytes"}.

    peak_bytes: the most that torch held on the GPU; on a CPU the process's own peak, libraries included.
    """
    generations, prompts, longest = groups(recipe)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device)
    ids = look.prompt.input_ids[-8:].tolist()  # text behind the media: which tokens does not matter for cost
    answers = [(ids * (longest // len(ids) + 1))[:longest]] * generations
    row = pack([look.prompt] * prompts, [answers] * prompts, [prompt_positions(model, look.prompt)] * prompts)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    model.train()
    if recipe.grpo.get("gradient_checkpointing", True):
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    start = time.perf_counter()
    model(packed=row.to(device), temperature=1.0)["logps"].mean().backward()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    seconds = time.perf_counter() - start
    model.zero_grad(set_to_none=True)
    return {"seconds": seconds, "peak_bytes": float(_peak(device))}


def _peak(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
