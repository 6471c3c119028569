"""Groups with nothing to learn: a step of four prompts of which two, or all, have answers that all earned the same.

Compared: `rollout.skip_flat_groups` on and off, by turns, in one process, behind the rollout (whose cost is the same):
forward and backward of the step's four micro-batches. The rewards are given, so that the wanted groups are flat.
Tokens are those that enter the language model.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from scripts.bench.figure import Figure
from scripts.bench.timing import by_turns, ratio

PROMPTS, ANSWERS = 4, 6


def passes(
    folder: Path, flat: int, skip: bool, prompt_tokens: int, answer_tokens: int
) -> tuple[Callable[[], object], list[int]]:
    """(forward and backward of one step, the list in which each call notes its tokens)."""
    import torch

    from avst.models.loading import load
    from avst.step import MicroBatch, Step
    from avst.types import Answer, Group, Prompt, Question, Space

    model = load(folder)[0]
    torch.manual_seed(0)
    question = Question("bench", "temporal", "-", "", 0.0, gold=Answer(), gold_text="")

    def group(size: int, advantages: list[float]) -> Group:
        prompt = Prompt(question, torch.randint(300, 400, (size,)), {}, Space((1, 1), (1, 1)))
        prompt.positions = torch.arange(size).expand(3, -1)
        length = 1 if len(advantages) == 1 else answer_tokens
        answers = [torch.randint(300, 400, (length,)).tolist() for _ in advantages]
        return Group(prompt, answers, [], [], advantages=advantages)

    step = Step()
    for number in range(PROMPTS):
        micro = MicroBatch(step, [])
        values = [0.0] * ANSWERS if number < flat else [1.0, -1.0] * (ANSWERS // 2)
        micro.take([group(prompt_tokens, values)], skip, lambda: group(24, [0.0]))
        step.micro_batches.append(micro)
    tokens: list[int] = []
    model.model.language_model.register_forward_pre_hook(
        lambda module, args, kwargs: tokens.append(kwargs["inputs_embeds"].shape[1]), with_kwargs=True
    )

    def once() -> None:
        tokens.clear()
        for micro in step.micro_batches:
            row = micro.row(model)
            logps = model(packed=row)["logps"]
            weights = torch.tensor([a for g in micro.groups for a in g.advantages])
            (logps * weights.repeat_interleave(torch.tensor(row.lengths))).sum().backward()

    return once, tokens


def run(quick: bool) -> list[Figure]:
    """Time and tokens, without skipping over with it."""
    from avst.models.tiny import make_tiny

    sizes = {"hidden": 64, "layers": 2} if quick else {"hidden": 256, "layers": 6}
    shape = {"prompt_tokens": 60, "answer_tokens": 8} if quick else {"prompt_tokens": 1250, "answer_tokens": 64}
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as folder:
        make_tiny("qwen2_5_vl", Path(folder), **sizes)
        for flat in (PROMPTS // 2, PROMPTS):
            arms = {name: passes(Path(folder), flat, name == "skipped", **shape) for name in ("computed", "skipped")}
            seconds = by_turns({name: once for name, (once, _) in arms.items()}, repeats=1 if quick else 5)
            tokens = {name: sum(noted) for name, (_, noted) in arms.items()}
            how = {"shape": shape, "seconds": seconds, "tokens": tokens}
            label = f"{flat} of {PROMPTS} groups flat"
            figures += [
                Figure("flat groups", f"{label}: time, computed / skipped", ratio(seconds, *arms), "x", ">= 1", how),
                Figure("flat groups", f"{label}: tokens, skipped / computed", tokens["skipped"] / tokens["computed"]),
            ]
    return figures
