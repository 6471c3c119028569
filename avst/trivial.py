"""Answers that need neither eyes nor ears: the rows that every table shows beside a model.

They are given more than a model is (the gold names, the gold times) and they see nothing, yet on R-AVST's annotations
they beat the published models: a figure is worth what it has over them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from avst.errors import AvstError
from avst.types import NOT_VISIBLE, Answer, AnswerObject, Interval, Question, Track
from avst.word_vectors import normalise

WHOLE_CLIP = "whole clip"
WHOLE_FRAME = "whole frame"
FREQUENT_NAME = "most frequent name"


def whole_clip(question: Question) -> Answer:
    """Every gold name, from 0 to the clip's end."""
    return Answer(tuple(AnswerObject(name, (Interval(0.0, question.duration_s),)) for name in question.gold_names))


def whole_frame(question: Question, frame_px: tuple[float, float]) -> Answer:
    """Every gold name with one box of the whole frame (width, height) at each of its visible times."""
    box = (0.0, 0.0, float(frame_px[0]), float(frame_px[1]))
    objects = []
    for gold in question.gold.objects:
        visible = zip(gold.track.times_s, gold.track.boxes_px, strict=True)
        times = tuple(dict.fromkeys(t for t, gold_box in visible if gold_box != NOT_VISIBLE))
        objects.append(AnswerObject(gold.name, track=Track(times, (box,) * len(times))))
    return Answer(tuple(objects))


def most_frequent_name(questions: Iterable[Question]) -> str:
    """The name that is right for the most spatial questions (once a question; the first written on ties), "" if none.

    Names are compared as the object reward does; the spelling returned is the first one seen.
    """
    spelling: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for question in questions:
        if question.task == "spatial":
            for name in question.gold_names:
                spelling.setdefault(normalise(name), name)
            counts.update(dict.fromkeys(map(normalise, question.gold_names), 1))
    return spelling[counts.most_common(1)[0][0]] if counts else ""


def name_alone(name: str) -> Answer:
    """An answer that names one object and says neither when nor where."""
    return Answer((AnswerObject(name),))


def annotated_extent(questions: Iterable[Question]) -> dict[str, tuple[float, float]]:
    """video -> the largest (x2, y2) of its annotated boxes: a frame's size as far as the annotations tell it."""
    extent: dict[str, tuple[float, float]] = {}
    for question in questions:
        for gold in question.gold.objects:
            for _, _, x2, y2 in gold.track.boxes_px:
                width, height = extent.get(question.video, (0.0, 0.0))
                extent[question.video] = (max(width, x2), max(height, y2))
    return extent


def frame_of(question: Question, frames_px: Mapping[str, tuple[float, float]]) -> tuple[float, float]:
    """The frame of a question's video. Raises AvstError where it is not known though the question has boxes."""
    frame = frames_px.get(question.video)
    if frame is None:
        if any(gold.track.times_s for gold in question.gold.objects):
            raise AvstError(f"{question.id}: the frame size of its video is not known")
        return (0.0, 0.0)
    return frame
