"""Recipe -> the objects of a run. What a recipe leaves out gets the classes' own defaults; nothing is decided twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft import LoraConfig, PeftModel
from transformers import PreTrainedModel, ProcessorMixin

from avst.config import Recipe
from avst.data import ClipDataset, Kept, PromptDataset, Source
from avst.errors import AvstError
from avst.media import MediaSettings
from avst.models.families import Family, unwrapped
from avst.models.feature_store import FeatureStore
from avst.models.loading import load, load_sketch, lora_config
from avst.plugins import load_specs
from avst.prompt import PromptBuilder, audio_clock_of
from avst.scoring import Scorer
from avst.tasks.r_avst import load_annotations
from avst.types import Question
from avst.word_vectors import WordVectors


@dataclass(slots=True)
class Policy:
    """A model with all that turns questions into its prompts and its answers into objects."""

    model: PreTrainedModel | PeftModel
    processor: ProcessorMixin
    family: Family
    prompts: PromptBuilder
    adapters: LoraConfig | None


def policy(recipe: Recipe, checkpoint: str | Path | None = None) -> Policy:
    """The recipe's model, or `checkpoint` in its place under the recipe's settings.

    A checkpoint of adapters is loaded with its base and gets no second set of adapters.
    """
    chosen, lora = recipe.model, recipe.model.lora
    model, processor, family = load(
        checkpoint if checkpoint is not None else chosen.path,
        dtype=chosen.dtype,
        attention=chosen.attention,
        freeze=chosen.freeze,
        quantize_4bit=lora is not None and lora.quantize_4bit,
        revision=chosen.revision if checkpoint is None else None,
        allow_pickle=chosen.allow_pickle,
    )
    if chosen.feature_cache is not None:
        unwrapped(model).feature_store = FeatureStore(chosen.feature_cache, int(chosen.feature_cache_gb * 1e9))
    adapters = None
    if lora is not None and not isinstance(model, PeftModel):
        adapters = lora_config(model, lora.r, lora.alpha, lora.dropout, lora.target_modules)
    prompts = PromptBuilder(
        processor,
        family,
        recipe.prompt.max_text_tokens,
        recipe.prompt.system,
        audio_clock_of(model.config),
        keep_shown=bool(recipe.grpo.get("use_vllm", False)),
    )
    return Policy(model, processor, family, prompts, adapters)


def sketch(recipe: Recipe, checkpoint: str | Path | None = None) -> Policy:
    """The recipe's model without its weights: all that prompts and estimates need, in seconds and little memory."""
    chosen = recipe.model
    path = checkpoint if checkpoint is not None else chosen.path
    revision = chosen.revision if checkpoint is None else None
    model, processor, family = load_sketch(path, dtype=chosen.dtype, freeze=chosen.freeze, revision=revision)
    prompts = PromptBuilder(
        processor, family, recipe.prompt.max_text_tokens, recipe.prompt.system, audio_clock_of(model.config)
    )
    return Policy(model, processor, family, prompts, None)


def questions(recipe: Recipe, split: str) -> list[Question]:
    """The questions of a split ("train" or "eval"), of the recipe's tasks, the first max_questions of them."""
    files: Sequence[str] = getattr(recipe.data, split)
    if not files:
        raise AvstError(f"data.{split}: the recipe names no annotation file")
    if missing := [file for file in files if not Path(file).exists()]:
        raise AvstError(
            f"data.{split}: {', '.join(missing)}: no such file; data.{split}=FILE names another, `avst synth` makes "
            "clips with annotations, `avst quickstart` those of its own recipe"
        )
    found = [question for file in files for question in load_annotations(Path(file))]
    seen: set[str] = set()
    for question in found:
        if question.id in seen:
            raise AvstError(f"data.{split}: {question.id}: two questions of one id in {', '.join(files)}")
        seen.add(question.id)
    kept = [question for question in found if question.task in recipe.data.tasks][: recipe.data.max_questions]
    if not kept:
        raise AvstError(f"data.{split}: no question of {', '.join(recipe.data.tasks)} in {', '.join(files)}")
    return kept


def source(recipe: Recipe, family: Family) -> Source:
    """Where clips come from; a model without ears is not made to wait for sound."""
    media = recipe.media
    if recipe.data.videos is None:
        raise AvstError("data.videos: the recipe names no folder of videos")
    settings = MediaSettings(
        fps=media.fps,
        max_frames=media.max_frames,
        audio_rate=16000 if media.audio and family.hears else None,
        decoder=media.decoder,
        deadline_s=media.deadline_s,
        cache_dir=media.cache_dir,
        cache_gb=media.cache_gb,
    )
    bounds: Mapping[str, int | None] = {
        "min_pixels": media.min_pixels,
        "max_pixels": media.max_pixels,
        "total_pixels": media.total_pixels,
    }
    return Source(Path(recipe.data.videos), settings, bounds, media.on_error)


def dataset(recipe: Recipe, parts: Policy, split: str, by_clip: bool = False) -> Any:
    """A split as a torch data set of prompts, a row a question (or a clip); kept in memory where the recipe says so."""
    rows = (ClipDataset if by_clip else PromptDataset)(
        questions(recipe, split), parts.prompts, source(recipe, parts.family)
    )
    return Kept(rows) if recipe.data.keep_in_memory else rows


def scorer(recipe: Recipe) -> Scorer:
    """The recipe's rewards with their weights and word vectors."""
    rewards = {name: {"use": entry.use, "weight": entry.weight} for name, entry in recipe.rewards.items()}
    vectors = WordVectors.load(recipe.word_vectors.path, recipe.word_vectors.tau, recipe.word_vectors.mapped)
    return Scorer(load_specs(rewards), vectors, recipe.reward_errors, recipe.reward_deadline_s, recipe.reward_process)
