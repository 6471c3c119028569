"""What to say when the memory did not suffice: for what, which clip was the longest, and what to lower."""

from __future__ import annotations

from collections.abc import Sequence

from avst.errors import AvstError
from avst.prompt import PromptBuilder
from avst.types import Group, Prompt

_CLIPS = "media.total_pixels, media.max_frames or media.fps"


def too_large_a_rollout(
    prompts: Sequence[Prompt], answers: int, most: int, builder: PromptBuilder, error: BaseException
) -> AvstError:
    """answers: to each prompt;  most: tokens of the longest."""
    return AvstError(
        f"not enough memory for the rollout of {len(prompts)} prompt(s), {answers} answers of up to {most} tokens "
        f"each; {longest(prompts, builder)}: lower rollout.max_rows, grpo.max_completion_length, {_CLIPS} "
        f"({_line(error)})"
    )


def too_large_an_update(groups: Sequence[Group], builder: PromptBuilder, error: BaseException) -> AvstError:
    """groups: of the micro-batch that did not fit."""
    prompts = [group.prompt for group in groups]
    written = sum(len(ids) for group in groups for ids in group.completion_ids)
    tokens = written + sum(p.input_ids.numel() for p in prompts)
    return AvstError(
        f"not enough memory for the update on {len(prompts)} prompt(s) and their answers, {tokens} tokens in a row; "
        f"{longest(prompts, builder)}: lower grpo.per_device_train_batch_size, {_CLIPS}, or try "
        f"grpo.gradient_checkpointing=true or model.lora ({_line(error)})"
    )


def too_large_a_lesson(prompts: Sequence[Prompt], builder: PromptBuilder, error: BaseException) -> AvstError:
    """prompts: one a clip of the supervised micro-batch that did not fit."""
    return AvstError(
        f"not enough memory for the update on {len(prompts)} clip(s); {longest(prompts, builder)}: lower "
        f"sft.per_device_train_batch_size, {_CLIPS}, or try sft.gradient_checkpointing=true or model.lora "
        f"({_line(error)})"
    )


def longest(prompts: Sequence[Prompt], builder: PromptBuilder) -> str:
    """Example: "the longest prompt, abc/0/temporal/0 (clip abc), has 3584 tokens and 42 frames"."""
    if not prompts:
        return "there is no prompt in it"
    prompt = max(prompts, key=lambda p: int(p.input_ids.numel()))
    question = prompt.question
    return (
        f"the longest prompt, {question.id} (clip {question.video}), has {prompt.input_ids.numel()} tokens and "
        f"{builder.frames(prompt)} frames"
    )


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
