"""Tokens of a prompt from a clip's length and size, without decoding it and, where need be, without a tokenizer.

Media tokens are exact: the clock of avst.media.clock, the resize rule of qwen-vl-utils, the length rule of the audio
tower. Text is exact where the model's processor is at hand, else guessed from its letters.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from avst import assemble
from avst.config import Recipe
from avst.data import Source
from avst.errors import AvstError
from avst.media import MediaInfo, probe, video_path
from avst.media.clock import frame_clock
from avst.models.families import Family
from avst.models.media_tokens import media_size
from avst.models.packaged import packaged
from avst.prompt import FACTOR, PromptBuilder
from avst.tasks.r_avst import SYSTEM_PROMPT, prompt_text
from avst.types import Answer, Prompt, Question

HOP = 160  # samples a mel frame of Qwen2.5-Omni's feature extractor: 100 a second, 25 tokens
MARKS = 5  # <|im_start|>system \n … <|im_end|> \n of a turn
PROBED = 32  # videos of a data set that are looked at
TYPICAL = Question(
    "typical", "st", "When and where does the dog that is barking appear in the video?", "-", 40.0, Answer(), ""
)


@dataclass(frozen=True, slots=True)
class ClipShape:
    """A clip before it is decoded. width, height: px as displayed;  duration_s: of the longer of picture and sound;
    picture_s, sound_s: when these end on its clock, sound_s None without a track."""

    width: int
    height: int
    duration_s: float
    picture_s: float
    sound_s: float | None

    @classmethod
    def of(cls, info: MediaInfo) -> ClipShape:
        sound = info.audio_end_s if info.has_audio else None
        return cls(info.width, info.height, info.duration_s, info.video_end_s, sound)


@dataclass(frozen=True, slots=True)
class PromptShape:
    """text, video, audio: tokens;  patches: of the vision tower, pairs of frames of frame_patches each;  mel: frames
    of the audio tower's input;  seconds: of the clip, for its decoding."""

    text: int
    video: int
    audio: int
    patches: int
    frame_patches: int
    mel: int
    seconds: float = 0.0

    @property
    def total(self) -> int:
        return self.text + self.video + self.audio

    @classmethod
    def of(cls, prompt: Prompt, kinds: dict[str, int], seconds: float = 0.0) -> PromptShape:
        """Of a real prompt. kinds: its tokens by kind (avst.models.media_tokens.token_kinds)."""
        patches, frame, mel = media_size(prompt)
        video = kinds.get("video", 0) + kinds.get("image", 0)
        return cls(kinds.get("text", 0), video, kinds.get("audio", 0), patches, frame, mel, seconds)


def prompt_shape(clip: ClipShape, source: Source, text: int, hop: int = HOP) -> PromptShape:
    """text: tokens of the text and all marks;  hop: samples of a mel frame. A model without ears has a source without
    audio_rate."""
    media = source.media
    frames = len(frame_clock(clip.picture_s, media.fps, media.max_frames).times_s)
    width, height = source.size(clip.width, clip.height, clip.duration_s)
    grid = (width // FACTOR) * (height // FACTOR)
    mel = audio = 0
    if media.audio_rate is not None and clip.sound_s:
        mel = math.ceil(round(clip.sound_s * media.audio_rate) / hop)
        audio = ((mel - 1) // 2 + 1 - 2) // 2 + 1  # two convolutions and a pooling, as the processor counts
    pairs = frames // 2
    return PromptShape(text, pairs * grid, audio, pairs * grid * 4, grid * 4, mel, clip.duration_s)


def processor_at(recipe: Recipe, path: str | None = None) -> Any | None:
    """The model's processor where it lies in a folder of this machine; None where it would have to be fetched."""
    from avst.models.loading import load_processor

    folder = Path(packaged(path or recipe.model.path))
    return load_processor(str(folder), None) if (folder / "tokenizer_config.json").is_file() else None


def text_tokens(question: Question, builder: PromptBuilder, sound: bool) -> int:
    """Tokens of the prompt without its media, marks of media included."""
    text = builder._text(question, ["video"])
    ids = builder.processor.tokenizer(text, add_special_tokens=False)["input_ids"]
    return len(ids) - 1 + (2 if sound else 0)  # the placeholder itself; marks around the sound


def guessed_text_tokens(question: Question, system: str | None, sound: bool) -> int:
    """The same without a tokenizer: Qwen's writes a digit a token, most words as one, long ones as a token for each six
    letters, and what stands between as one for each two signs. Right to about a fifth."""
    words = f"{SYSTEM_PROMPT if system is None else system}\n{prompt_text(question)}"
    letters = sum(math.ceil(len(word) / 6) for word in re.findall(r"[^\W\d_]+", words))
    digits = len(re.findall(r"\d", words))
    signs = sum(math.ceil(len(run) / 2) for run in re.findall(r"(?:[^\w ]|_)+", words))
    return letters + digits + signs + 2 * MARKS + 3 + 2 + (2 if sound else 0)


def clips_of(questions: Sequence[Question], source: Source) -> list[ClipShape]:
    """Up to PROBED of the questions' videos, evenly spread; those that are not there or cannot be read are left out."""
    step = max(1, len(questions) // PROBED)
    found = []
    for question in questions[::step][:PROBED]:
        try:
            found.append(ClipShape.of(probe(video_path(source.videos, question.video))))
        except AvstError:
            continue
    return found


def source_of(recipe: Recipe, family: Family) -> Source:
    """As avst.assemble.source; a plan needs no folder of videos."""
    return assemble.source(replace(recipe, data=replace(recipe.data, videos=recipe.data.videos or ".")), family)
