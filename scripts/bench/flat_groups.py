"""Groups with nothing to learn: a step of four prompts of which two, or all, have answers that all earned the same.

Compared: `rollout.skip_flat_groups` on and off, by turns, in one process, in avst's own GRPOTrainer: what a step takes
behind its rollout, that is rewards, forward, backward and AdamW over four micro-batches of one group. The answers are
given and not drawn, since skipping saves nothing there, and the rewards make the wanted groups flat. A prompt is a clip
of 4 frames of 336 x 336 (288 visual tokens), G = 6, C = 64; hidden 256, 6 layers, a vision tower of 4 blocks that
learns as well, float32. Tokens are those that enter the language model; in a flat group's place they are a blank's.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from scripts.bench.figure import Figure
from scripts.bench.timing import by_turns, medians, ratio

PROMPTS, ANSWERS = 4, 6
MODEL = {"hidden": 256, "layers": 6, "heads": 8, "kv_heads": 2, "vision_hidden": 256, "vision_depth": 4}
SMALL_MODEL = {"hidden": 64, "layers": 2, "heads": 4, "kv_heads": 2, "vision_hidden": 32, "vision_depth": 2}
SHAPE = {"frames": 4, "side": 336, "answer_tokens": 64}
SMALL_SHAPE = {"frames": 4, "side": 56, "answer_tokens": 8}
TARGETS = {PROMPTS // 2: ">= 1.7", PROMPTS: ">= 10"}


def arm(folder: Path, flat: int, skip: bool, **shape: int) -> tuple[Callable[[], object], list[int]]:
    """(one optimizer step without its rollout, the list in which each call notes the tokens of its forwards).

    flat: so many of the step's groups have answers of equal worth;  shape: see SHAPE.
    """
    import torch

    from avst.step import Step

    trainer = trainer_of(folder, flat, skip, **shape)
    trainer.current_gradient_accumulation_steps = PROMPTS
    optimizer = trainer.create_optimizer()
    tokens: list[int] = []
    trainer.model.model.language_model.register_forward_pre_hook(
        lambda module, args, kwargs: tokens.append(kwargs["inputs_embeds"].shape[1]), with_kwargs=True
    )

    def once() -> None:
        tokens.clear()
        for micro in Step.of([[row] for row in trainer.train_dataset]).micro_batches:
            trainer.training_step(trainer.model, micro)
        torch.nn.utils.clip_grad_norm_(trainer.model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return once, tokens


def trainer_of(folder: Path, flat: int, skip: bool, frames: int, side: int, answer_tokens: int) -> Any:
    """avst's trainer over PROMPTS questions whose answers are given."""
    import torch
    from trl import GRPOConfig

    from avst.models.loading import load
    from avst.plugins import RewardSpec
    from avst.prompt import PromptBuilder
    from avst.rollout_options import RolloutOptions
    from avst.scoring import Scorer
    from avst.trainer import GRPOTrainer
    from avst.types import Group, Prompt
    from avst.word_vectors import WordVectors

    class Given(GRPOTrainer):
        def _sample(self, model: Any, prompts: list[Prompt]) -> list[Group]:
            self._paths_checked = True  # nothing was generated, so there is nothing to check
            answers = torch.randint(300, 400, (ANSWERS, answer_tokens), generator=torch.Generator().manual_seed(0))
            return [Group(p, answers.tolist(), [[0.0] * answer_tokens] * ANSWERS, [False] * ANSWERS) for p in prompts]

    def reward(prompts: Any, completions: Any, question: Sequence[Any], **columns: Any) -> list[float]:
        return [float(int(one.id) >= flat and place % 2) for place, one in enumerate(question)]

    model, processor, family = load(folder, dtype="float32")
    builder = PromptBuilder(processor, family, 512)
    return Given(
        model=model,
        scorer=Scorer([RewardSpec("bench", reward, 1.0)], WordVectors.load(None)),
        args=GRPOConfig(
            output_dir=str(folder / "out"),
            num_generations=ANSWERS,
            per_device_train_batch_size=ANSWERS,
            gradient_accumulation_steps=PROMPTS,
            max_completion_length=answer_tokens,
            optim="adamw_torch",
            gradient_checkpointing=False,
            bf16=False,
            use_cpu=True,
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=False,
        ),
        train_dataset=[_prompt(builder, number, frames, side) for number in range(PROMPTS)],
        prompts=builder,
        rollout_options=RolloutOptions(skip_flat_groups=skip),
    )


def _prompt(builder: Any, number: int, frames: int, side: int) -> Any:
    """A question about `frames` noisy frames of side x side pixels."""
    import numpy as np

    from avst.types import Answer, Clip, Question

    noise = np.random.default_rng(number).integers(0, 256, (frames, side, side, 3), dtype=np.uint8)
    clip = Clip(noise, np.arange(frames) / 2, 2.0, (side, side), frames / 2, None, 16000, {"digest": str(number)})
    question = Question(str(number), "temporal", "-", "When?", frames / 2, gold=Answer(), gold_text="")
    return builder.build(question, clip)


def run(quick: bool) -> list[Figure]:
    """Time and tokens, without skipping over with it."""
    from avst.models.tiny import make_tiny

    shape = SMALL_SHAPE if quick else SHAPE
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as folder:
        make_tiny("qwen2_5_vl", Path(folder), **(SMALL_MODEL if quick else MODEL))
        for flat in (PROMPTS // 2, PROMPTS):
            arms = {name: arm(Path(folder), flat, name == "skipped", **shape) for name in ("computed", "skipped")}
            seconds = by_turns({name: once for name, (once, _) in arms.items()}, repeats=1 if quick else 3)
            tokens = {name: sum(noted) for name, (_, noted) in arms.items()}
            how = {"shape": shape, "seconds": seconds, "medians": medians(seconds), "tokens": tokens}
            label = f"{flat} of {PROMPTS} groups flat"
            target = "" if quick else TARGETS[flat]  # where the model is next to nothing, what else a step does counts
            share = tokens["skipped"] / tokens["computed"]
            figures += [
                Figure("flat groups", f"{label}: time, computed / skipped", ratio(seconds, *arms), "x", target, how),
                Figure("flat groups", f"{label}: tokens, skipped / computed", share, "x", "", how),
            ]
    return figures
