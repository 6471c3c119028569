"""Prompt tokens reckoned from a file's length and size are those of the prompt that the processor makes of it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from avst import assemble
from avst.config import load_recipe
from avst.media import probe, video_path
from avst.models.families import family_of
from avst.models.media_tokens import token_kinds
from avst.plan.shape import sketch
from avst.plan.tokens import (
    ClipShape,
    PromptShape,
    guessed_text_tokens,
    processor_at,
    prompt_shape,
    source_of,
    text_tokens,
)
from avst.scenes.settings import make_settings
from avst.scenes.synthesise import synthesise
from avst.types import Answer, Question


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory, tiny_folders: dict[str, Path]) -> Path:
    folder = tmp_path_factory.mktemp("plan")
    synthesise(folder / "scenes", 1, 0, make_settings("quickstart"))
    for kind, path in tiny_folders.items():
        (folder / f"{kind}.yaml").write_text(
            f"model: {{path: '{path}', dtype: float32}}\n"
            "data: {train: scenes/annotations_train.json, videos: scenes/videos}\n"
            "prompt: {system: Answer in tags.}\n"
        )
    return folder


@pytest.mark.parametrize("kind", ["qwen2_5_vl", "qwen2_5_omni"])
@pytest.mark.parametrize(
    "media",
    [
        ("media.fps=2.0", "media.max_pixels=12544"),
        ("media.fps=1.3", "media.max_pixels=50176", "media.min_pixels=3136"),
        ("media.max_frames=5", "media.total_pixels=60000", "media.min_pixels=784"),
        ("media.audio=false", "media.max_pixels=12544"),
    ],
    ids=["plain", "odd rate", "few frames", "silent"],
)
def test_a_prompts_tokens_are_exact(scenes: Path, kind: str, media: tuple[str, ...]) -> None:
    recipe = load_recipe(scenes / f"{kind}.yaml", media)
    parts = assemble.sketch(recipe)
    question = assemble.questions(recipe, "train")[0]
    source = assemble.source(recipe, parts.family)
    clip = source.clip(question)
    prompt = parts.prompts.build(question, clip)
    real = PromptShape.of(prompt, dict(Counter(token_kinds(prompt, parts.model.config))), clip.duration_s)

    sound = source.media.audio_rate is not None
    text = text_tokens(question, parts.prompts, sound)
    hop = parts.prompts.processor.feature_extractor.hop_length if parts.family.hears else 160
    facts = ClipShape.of(probe(video_path(source.videos, question.video)))
    assert prompt_shape(facts, source_of(recipe, parts.family), text, hop) == real
    assert real.total == len(prompt.input_ids)
    assert (real.audio > 0) == sound


def test_published_sizes_by_hand(tmp_path: Path) -> None:
    """60 s of 1280x720 with sound for Qwen2.5-Omni: 120 frames in 60 pairs under 3,584 tokens a clip, so at most 59
    tokens a pair: 10 x 5 of 28 px (1280:720 of 59 is 10.2 x 5.8). Sound: 25 tokens a second."""
    (tmp_path / "r.yaml").write_text(
        "model: {path: Qwen/Qwen2.5-Omni-7B}\nmedia: {fps: 2.0, min_pixels: 3136, total_pixels: 2809856}\n"
    )
    recipe = load_recipe(tmp_path / "r.yaml")
    family = family_of(sketch(recipe).config)
    found = prompt_shape(ClipShape(1280, 720, 60.0, 60.0, 60.0), source_of(recipe, family), 300)
    assert (found.video, found.audio, found.mel, found.patches) == (60 * 50, 1500, 6000, 60 * 200)
    assert found.frame_patches == 200
    assert processor_at(recipe) is None


def test_guessed_text_is_near(scenes: Path) -> None:
    """A digit a token, a word a token or a few: counted by hand in one sentence."""
    question = Question("q", "temporal", "When is the dog heard from 10 to 25?", "v", 1.0, Answer(), "")
    without = guessed_text_tokens(question, "", sound=False)
    words, digits, signs, template = 7, 4, 2, 15  # When is the dog heard from to; 1 0 2 5; the line's end and the mark
    assert without == words + digits + signs + template
    assert guessed_text_tokens(question, "", sound=True) == without + 2
