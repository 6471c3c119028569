"""What there is to do: questions and clips of the recipe's data where they are here, else what the options say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from avst import assemble
from avst.config import Recipe
from avst.models.families import family_of
from avst.plan.build import Asked
from avst.plan.choices import DEFAULT_CLIP
from avst.plan.tokens import (
    HOP,
    TYPICAL,
    ClipShape,
    PromptShape,
    clips_of,
    guessed_text_tokens,
    processor_at,
    prompt_shape,
    source_of,
    text_tokens,
)
from avst.prompt import PromptBuilder, audio_clock_of
from avst.types import Question

TEXTS = 64  # questions whose text is tokenized


def asked_of(recipe: Recipe, model: Any, options: Any) -> Asked:
    """options: the command's: model, clip, silent, questions, answer_tokens.

    The mean of the clips stands for time, the longest prompt of them for memory. Raises AvstError for data that are
    there and cannot be read.
    """
    family = family_of(model.config)
    questions = _questions(recipe)
    source = source_of(recipe, family)
    clips = [_given(options)] if options.clip else clips_of(questions, source) if recipe.data.videos else []
    if options.clip:
        where = "clips of {}x{} px and {:g} s, as asked".format(*options.clip)
    elif clips:
        where = f"{len(clips)} of the recipe's videos"
    else:
        clips = [_given(options)]
        where = "clips of 1280x720 px and 40 s, assumed: the recipe's videos are not here (--clip)"
    if options.silent:
        clips = [replace(clip, sound_s=None) for clip in clips]
    processor = processor_at(recipe, options.model)
    texts = _texts(recipe, model, processor, questions, source.media.audio_rate is not None)
    hop = processor.feature_extractor.hop_length if processor is not None and family.hears else HOP
    shapes = [prompt_shape(clip, source, sum(texts) // len(texts), hop) for clip in clips]
    largest = max((prompt_shape(clip, source, max(texts), hop) for clip in clips), key=lambda shape: shape.total)
    count = options.questions or len(questions) or None
    return Asked(mean_of(shapes), largest, processor is not None, where, count, options.answer_tokens)


def mean_of(shapes: list[PromptShape]) -> PromptShape:
    names = ("text", "video", "audio", "patches", "frame_patches", "mel")
    n = len(shapes)
    whole = {name: round(sum(getattr(shape, name) for shape in shapes) / n) for name in names}
    return PromptShape(**whole, seconds=sum(shape.seconds for shape in shapes) / n)


def _given(options: Any) -> ClipShape:
    width, height, seconds = options.clip or DEFAULT_CLIP
    return ClipShape(width, height, seconds, seconds, seconds)


def _questions(recipe: Recipe) -> list[Question]:
    """Those of the training set where its files are here."""
    files = recipe.data.train
    if not files or not all(Path(file).is_file() for file in files):
        return []
    return assemble.questions(recipe, "train")


def _texts(recipe: Recipe, model: Any, processor: Any, questions: list[Question], sound: bool) -> list[int]:
    step = max(1, len(questions) // TEXTS)
    some = questions[::step][:TEXTS] or [TYPICAL]
    if processor is None:
        return [guessed_text_tokens(question, recipe.prompt.system, sound) for question in some]
    family = family_of(model.config)
    builder = PromptBuilder(
        processor, family, recipe.prompt.max_text_tokens, recipe.prompt.system, audio_clock_of(model.config)
    )
    return [text_tokens(question, builder, sound) for question in some]
