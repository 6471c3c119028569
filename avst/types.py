"""The map: every value that one room of avst hands to the next.

Letters used in shapes, here and everywhere:

    G  answers (completions) sampled for one prompt: one group
    P  tokens of a prompt, media tokens included        C  tokens of one completion
    T  frames of a clip       N  audio samples          K  reward functions

Units stand in names: `times_s` are seconds on the source's own clock, `boxes_px` are (x1, y1, x2, y2) in pixels of the
*source* video, whatever the model was shown. `avst.prompt` alone converts to and from the model's frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

Task = Literal["temporal", "spatial", "st"]
TASKS: tuple[Task, ...] = ("temporal", "spatial", "st")
Box = tuple[float, float, float, float]
NOT_VISIBLE: Box = (0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Interval:
    """A span of time, 0 <= start < end, seconds. Example: Interval(3.0, 12.5)."""

    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Track:
    """Boxes of one object over time, in the order written; entry i says box i stands at time i.

    A time may occur several times (two men in one second); NOT_VISIBLE is a valid entry ("not visible at this second").

    Example: Track((0.0, 1.0), ((10, 20, 110, 220), (0, 0, 0, 0)))
    """

    times_s: tuple[float, ...] = ()
    boxes_px: tuple[Box, ...] = ()


@dataclass(frozen=True, slots=True)
class AnswerObject:
    """One named object of an answer. Names keep the case they were written in; an empty name is kept.

    Example: AnswerObject("A man", (Interval(3.0, 12.5),), Track((3.0,), ((10, 20, 110, 220),)))
    """

    name: str
    intervals: tuple[Interval, ...] = ()
    track: Track = field(default_factory=Track)


@dataclass(frozen=True, slots=True)
class Answer:
    """What was read out of a completion (or a gold answer), boxes in source pixels.

    problems: reason -> count, for all that could not be read (see avst.answer); empty for a clean answer.
    tags: the tag names of which at least one whole pair was read ("object", "when", "where").
    """

    objects: tuple[AnswerObject, ...] = ()
    problems: Mapping[str, int] = field(default_factory=dict)
    tags: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Question:
    """One question about one clip: one dataset row, one group.

    Example: Question("abc/0/temporal/0", "temporal", "When is the moment the dog makes sound and is visible?",
                      video="abc", duration_s=40.2, gold=Answer(...), gold_text="<answer>…</answer>")
    """

    id: str
    task: Task
    text: str
    video: str
    duration_s: float
    gold: Answer
    gold_text: str

    @property
    def gold_names(self) -> tuple[str, ...]:
        return tuple(o.name for o in self.gold.objects)


@dataclass(frozen=True, slots=True)
class Clip:
    """A decoded clip. Frames and audio share the source's clock: frame i was on screen at times_s[i]; audio sample j
    was heard at j / audio_rate seconds (a track that starts late is preceded by silence).

    frames: uint8 (T, H, W, 3) RGB, already resized;  source_size: (width, height) px of the source;
    fps: the clock on which frames were taken;  audio: float32 (N,) mono or (channels, N), None where there is no track.
    provenance: path, content digest, decoder, settings; for logs and reports.
    """

    frames: np.ndarray
    times_s: np.ndarray
    fps: float
    source_size: tuple[int, int]
    duration_s: float
    audio: np.ndarray | None
    audio_rate: int
    provenance: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Space:
    """How the model speaks of boxes: pixels of the frame it saw (Qwen2.5) or 0..1000 (Qwen3-VL).

    Example: Space(source=(1280, 720), model=(644, 364)); a Qwen3 model has model=(1000, 1000).
    """

    source: tuple[int, int]
    model: tuple[int, int]

    def to_source(self, box: Box) -> Box:
        sx, sy = self.source[0] / self.model[0], self.source[1] / self.model[1]
        return (box[0] * sx, box[1] * sy, box[2] * sx, box[3] * sy)

    def to_model(self, box: Box) -> Box:
        sx, sy = self.model[0] / self.source[0], self.model[1] / self.source[1]
        return (box[0] * sx, box[1] * sy, box[2] * sx, box[3] * sy)


@dataclass(frozen=True, slots=True)
class Shown:
    """What a prompt was made of, for a sampler with a processor of its own (avst.vllm_rollout); opaque elsewhere.

    text_ids: tokens with one placeholder for each medium, int64 tensor;  messages: the chat of which they are the text;
    frames: uint8 tensor (T, H, W, 3) RGB as the model saw them, None where there are none;  fps: their clock;
    audio: float32 tensor (N,), None where there is none;  audio_rate: Hz;  processor: the keyword arguments by which
    vLLM and the model's processor in it make the prompt's own tensors of these.
    """

    text_ids: Any
    messages: list[dict[str, Any]]
    frames: Any = None
    fps: float = 0.0
    audio: Any = None
    audio_rate: int = 0
    processor: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Prompt:
    """A question as the model is given it. `media` is opaque outside avst.prompt and avst.models.

    input_ids: int64 tensor (P,);  media: keyword tensors of the model's forward (pixel values, grids, audio features);
    space: the box space of this prompt's clip;  clip_digest: the clip's content, "" where nothing was decoded;
    positions: int64 (3, P), set once by avst.models.families;  features: what frozen towers made of the media, set
    once by avst.models.features and then reused by rollout, policy and reference;  shown: what it was made of, where a
    sampler needs it.
    """

    question: Question
    input_ids: Any
    media: dict[str, Any]
    space: Space
    clip_digest: str = ""
    positions: Any = None
    features: dict[str, Any] = field(default_factory=dict)
    shown: Shown | None = None


@dataclass(slots=True)
class Group:
    """G answers to one prompt, with all that the loss needs. Lists are over the G completions.

    completion_ids: G lists of token ids, the end token included where the model wrote one;
    sampled_logps: G lists of floats, log-probs under the sampling policy;  truncated: no end token was written;
    advantages / rewards: filled by scoring.
    """

    prompt: Prompt
    completion_ids: list[list[int]]
    sampled_logps: list[list[float]]
    truncated: list[bool]
    texts: list[str] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    rewards: list[dict[str, float | None]] = field(default_factory=list)
    totals: list[float] = field(default_factory=list)
    advantages: list[float] = field(default_factory=list)
