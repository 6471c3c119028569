"""What one card does in an optimizer step, as a recipe says it: the letters of the formulae."""

from __future__ import annotations

import math
from dataclasses import dataclass

from avst.config import Recipe
from avst.plan.choices import Engine
from avst.plan.tokens import PromptShape

EULER = 0.5772


@dataclass(frozen=True, slots=True)
class Work:
    """G answers to each of `prompts` prompts a micro-batch, micro_batches of them a step, iterations updates a rollout.

    prompt, largest: a prompt on average, and the one that memory must hold;  answer: tokens of an answer on average;
    longest: that an answer may take (max_completion_length);  width: bytes of a number in matrix products;
    autocast: whether it is autocast that narrows them;  max_rows: answers decoded together, None for all.
    vllm: "colocate", "server", or "" where avst itself draws the answers;  vllm_share: of a card's memory that a
    colocated one takes;  vllm_sleeps: it gives that back for the update.
    """

    G: int
    prompts: int
    micro_batches: int
    iterations: int
    prompt: PromptShape
    largest: PromptShape
    answer: float
    longest: int
    beta: bool
    checkpointing: bool
    width: int
    autocast: bool
    sdpa: bool
    max_rows: int | None
    engine: Engine
    workers: int
    vllm: str = ""
    vllm_share: float = 0.0
    vllm_sleeps: bool = False

    @property
    def asked(self) -> int:
        """Prompts of a card and step."""
        return self.prompts * self.micro_batches

    @property
    def rows(self) -> int:
        """Answers that are decoded together."""
        at_once = self.asked if self.max_rows is None else max(1, self.max_rows // self.G)
        return min(at_once, self.asked) * self.G

    @property
    def tokens(self) -> int:
        """Of the packed row of a micro-batch as memory must hold it: P + G·C a prompt."""
        return self.prompts * (self.largest.total + self.G * self.longest)

    def drawn(self, cards: int) -> float:
        """Tokens of the longest answer, which all cards wait for. Where the mean is below the bound, lengths are taken
        for exponential: the longest of n is mean·(ln n + 0.577), up to the bound."""
        n = self.asked * self.G * cards
        return min(float(self.longest), max(self.answer, self.answer * (math.log(n) + EULER)))


def groups(recipe: Recipe) -> tuple[int, int, int]:
    """(G, prompts a micro-batch, C), with TRL's defaults where the recipe is silent."""
    said = recipe.grpo
    generations = int(said.get("num_generations", 8))
    prompts = max(1, int(said.get("per_device_train_batch_size", 8)) // generations)
    return generations, prompts, int(said.get("max_completion_length", 256))


def work_of(
    recipe: Recipe,
    itemsize: int,
    prompt: PromptShape,
    largest: PromptShape | None = None,
    answer: float | None = None,
    engine: Engine = "none",
) -> Work:
    """itemsize: bytes of a weight;  answer: None for max_completion_length, the most."""
    said = recipe.grpo
    generations, prompts, longest = groups(recipe)
    vllm = str(said.get("vllm_mode", "colocate")) if said.get("use_vllm", False) else ""
    narrow = bool(said.get("bf16", not said.get("fp16", False)) or said.get("fp16", False))
    return Work(
        G=generations,
        prompts=prompts,
        micro_batches=int(said.get("gradient_accumulation_steps", 1)),
        iterations=int(said.get("num_iterations", 1)),
        prompt=prompt,
        largest=largest or prompt,
        answer=min(float(longest), answer if answer is not None else float(longest)),
        longest=longest,
        beta=bool(said.get("beta", 0.0)),
        checkpointing=bool(said.get("activation_checkpointing", said.get("gradient_checkpointing", True))),
        width=2 if narrow else itemsize,
        autocast=narrow,
        sdpa=recipe.model.attention != "flash_attention_2",
        max_rows=recipe.rollout.max_rows,
        engine=engine,
        workers=int(said.get("dataloader_num_workers", 0 if recipe.data.keep_in_memory else 2)),
        vllm=vllm,
        vllm_share=float(said.get("vllm_gpu_memory_utilization", 0.3)) if vllm == "colocate" else 0.0,
        vllm_sleeps=bool(said.get("vllm_enable_sleep_mode", False)),
    )


def updates_of(recipe: Recipe, questions: int | None, questions_a_step: int, iterations: int) -> int | None:
    """Optimizer steps of the run: grpo.max_steps, or the epochs' whole steps. None where neither is known."""
    steps = int(recipe.grpo.get("max_steps", -1))
    if steps > 0:
        return steps
    if questions is None:
        return None
    epochs = float(recipe.grpo.get("num_train_epochs", 3.0))
    return int(epochs * (questions // questions_a_step) * iterations)
