"""Real optimizer steps of avst's trainer in a process of its own: seconds by phase, bytes at the peak, token counts.

Seconds are those of the processor (one thread), not of the clock: other programs on the machine take their turns in
between, which no plan can know. What they do to caches and memory stays in.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

import torch
from transformers import TrainerCallback

import avst.step
from avst.config import LoraRecipe
from avst.models.families import unwrapped
from avst.models.loading import load, lora_config
from avst.models.media_tokens import token_kinds
from avst.plan.this_machine import this_machine
from avst.plan.tokens import PromptShape
from avst.plugins import RewardSpec
from avst.prompt import PromptBuilder
from avst.scoring import Scorer
from avst.trainer import GRPOTrainer
from avst.word_vectors import WordVectors
from scripts.bench.step_arms import _Prompts, options, sevenths


def steps(folder: str, freeze: list[str], lora: int, steps: int, **shape: Any) -> Callable[[], dict[str, Any]]:
    """`steps` timed steps behind one that warms up, then one under torch's profiler. shape: see step_arms.options.

    The card is measured before and after; the better of each figure counts, for other programs only slow it down.
    """

    def once() -> dict[str, Any]:
        model, processor, family = load(folder, dtype="float32", freeze=freeze)
        rows = _Prompts(processor, shape)
        watch = _Watch(steps)
        checkpointing = shape.pop("checkpointing", False)
        args = options(folder=folder, frozen=False, **shape)
        args.activation_checkpointing, args.max_steps = checkpointing, steps + 2  # the library's new name of it
        trainer = GRPOTrainer(
            model=model,
            scorer=Scorer([RewardSpec("sevenths", sevenths, 1.0)], WordVectors.load(None)),
            args=args,
            train_dataset=rows,
            prompts=PromptBuilder(processor, family, 512),
            peft_config=lora_config(model, lora, 2 * lora) if lora else None,
            callbacks=[watch],
        )
        bare = unwrapped(trainer.model)
        trainer.end_ids = [bare.config.get_text_config().vocab_size]  # no answer ends before it is C long
        avst.step.time = SimpleNamespace(perf_counter=time.process_time)  # type: ignore[attr-defined]
        before = this_machine(clock=time.process_time)
        trainer.train()
        after = this_machine(clock=time.process_time)
        prompt = rows[0]
        kinds = dict(Counter(token_kinds(prompt, bare.config)))
        card = asdict(before)
        card["tflops"] = max(before.tflops, after.tflops)
        card["bandwidth_gb_s"] = max(before.bandwidth_gb_s, after.bandwidth_gb_s)
        card["read_share"] = max(before.read, after.read) / card["bandwidth_gb_s"] / 1e9
        card["op_us"] = min(before.op_us, after.op_us)
        found = {
            "weights": _bytes(trainer.model.parameters()),
            "trained": sum(p.numel() for p in trainer.model.parameters() if p.requires_grad),
            "reference": _bytes(trainer.reference.model.parameters())
            if trainer.reference is not None and trainer.reference.model is not None
            else 0,
            "optimizer": _bytes(
                state
                for states in trainer.optimizer.state.values()
                for state in states.values()
                if torch.is_tensor(state) and state.dim()
            ),
        }
        return {
            "card": card,
            "prompt": asdict(PromptShape.of(prompt, kinds)),
            "phases": watch.quickest(),
            "above": watch.above,
            **found,
        }

    return once


def lora_recipe(rank: int) -> LoraRecipe | None:
    return LoraRecipe(r=rank, alpha=2 * rank) if rank else None


def _bytes(tensors: Any) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


class _Watch(TrainerCallback):
    """Keeps each step's logged seconds and the optimizer's, and profiles the memory of the last step."""

    def __init__(self, timed: int) -> None:
        self.timed = timed
        self.steps: list[dict[str, float]] = []
        self.above = 0
        self.profile: Any = None
        self.began = 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.optimizer = 0.0
        self.whole = time.process_time()
        if state.global_step == self.timed + 1:
            activities = [torch.profiler.ProfilerActivity.CPU]
            self.profile = torch.profiler.profile(activities=activities, profile_memory=True)
            self.profile.__enter__()

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.began = time.process_time()

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.optimizer = time.process_time() - self.began

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.whole = time.process_time() - self.whole
        if self.profile is not None:
            self.profile.__exit__(None, None, None)
            self.above = _peak(self.profile)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        seconds = {k.removeprefix("seconds/"): v for k, v in (logs or {}).items() if k.startswith("seconds/")}
        if seconds and 1 < state.global_step <= self.timed + 1:
            self.steps.append(seconds | {"optimizer": self.optimizer, "step": self.whole})

    def quickest(self) -> dict[str, float]:
        return {name: min(step.get(name, 0.0) for step in self.steps) for name in self.steps[0]}


def _peak(profile: Any) -> int:
    """The most bytes that were allocated at once since the profile began."""
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = most = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most
