"""What annotations say was to be seen and heard: boxes at any moment, sounding intervals, the frame's size.

A box stands at its second exactly; between two consecutive seconds that both have boxes it glides from one to the
other; after a second with no successor it stays up to a second longer. Four zeros take it off the screen at once.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from avst.errors import AvstError
from avst.scenes.motion import frame_at
from avst.scenes.settings import LARGEST_SIDE_PX
from avst.scenes.world import Look, thing
from avst.types import NOT_VISIBLE, Interval, Question, Track

_HOLD_S = 1.0
_SLACK_S = 0.05  # "consecutive seconds" of times that were rounded to a tenth
# What video sites serve; annotations seldom reach the frame's edge, so their extent is rounded up to one of these.
_COMMON_SIZES = (
    *((320, 240), (426, 240), (480, 360), (640, 360), (640, 480), (854, 480), (960, 720), (1280, 720), (1920, 1080)),
    *((136, 240), (204, 360), (270, 480), (406, 720), (608, 1080), (240, 240), (360, 360), (480, 480), (720, 720)),
)
_SIZE_WITHOUT_BOXES = (640, 360)


@dataclass(frozen=True, slots=True)
class Moving:
    """One object's boxes by time: boxes_px[i] is float (n_i, 4), n_i boxes at times_s[i] (0: not visible)."""

    look: Look
    times_s: tuple[float, ...]
    boxes_px: tuple[np.ndarray, ...]

    def at_frame(self, index: int, fps: Fraction) -> np.ndarray:
        """Boxes (n, 4) to draw in a frame: those annotated while it is on screen, or else those of its beginning."""
        time = float(index / fps)
        after = bisect.bisect_right(self.times_s, time - 1e-6)
        if after < len(self.times_s) and frame_at(self.times_s[after], fps) == index:
            return self.boxes_px[after]
        before = after - 1
        if before < 0 or time - self.times_s[before] >= _HOLD_S:
            return np.zeros((0, 4))
        if after < len(self.times_s):
            gap = self.times_s[after] - self.times_s[before]
            if gap <= _HOLD_S + _SLACK_S and len(self.boxes_px[after]) == len(self.boxes_px[before]):
                share = (time - self.times_s[before]) / gap
                return self.boxes_px[before] * (1 - share) + self.boxes_px[after] * share
        return self.boxes_px[before]


def moving_objects(questions: Iterable[Question]) -> list[Moving]:
    """Every annotated object with its boxes; one that several questions annotate alike comes once."""
    tracks: dict[tuple[str, Track], None] = {}
    for question in questions:
        for found in question.gold.objects:
            if found.track.times_s:
                tracks[(found.name.lower(), found.track)] = None
    return [_moving(name, track) for name, track in tracks]


def _moving(name: str, track: Track) -> Moving:
    by_time: dict[float, list[tuple[float, ...]]] = {}
    for time, box in zip(track.times_s, track.boxes_px, strict=True):
        boxes = by_time.setdefault(time, [])
        if box != NOT_VISIBLE:
            boxes.append(box)
    times = tuple(sorted(by_time))
    return Moving(thing(name).look, times, tuple(np.array(by_time[t], dtype=float).reshape(-1, 4) for t in times))


def sounding(questions: Sequence[Question]) -> list[tuple[str, Interval]]:
    """(name, interval) that sound, an object's overlapping intervals joined.

    Temporal and st answers say when; a spatial question about sounding objects does so for a name of which they say
    nothing during that time.
    """
    by_name: dict[str, list[Interval]] = {}
    for question in questions:
        for found in question.gold.objects:
            by_name.setdefault(found.name.lower(), []).extend(found.intervals)
    stated = {name: list(intervals) for name, intervals in by_name.items()}
    for question in questions:
        during = asked_interval(question.text) if "make sound" in question.text else None
        for found in question.gold.objects:
            name = found.name.lower()
            if question.task == "spatial" and during is not None and not _any_meets(stated[name], during):
                by_name[name].append(during)
    return [(name, interval) for name, intervals in by_name.items() for interval in joined(intervals)]


def _any_meets(intervals: Iterable[Interval], during: Interval) -> bool:
    return any(min(i.end, during.end) > max(i.start, during.start) for i in intervals)


def asked_interval(text: str) -> Interval | None:
    """The interval of "… between 3.0 and 12.5, …"; None where the text has none."""
    words = text.replace(",", " ").replace("?", " ").split()
    for i, word in enumerate(words[:-3]):
        if word == "between" and words[i + 2] == "and":
            try:
                start, end = float(words[i + 1]), float(words[i + 3])
            except ValueError:
                continue
            if 0 <= start < end and math.isfinite(end):
                return Interval(start, end)
    return None


def joined(intervals: Iterable[Interval]) -> list[Interval]:
    """The union as disjoint intervals, in order. [0, 2], [1, 3], [5, 6] -> [0, 3], [5, 6]."""
    union: list[Interval] = []
    for interval in sorted(intervals, key=lambda i: (i.start, i.end)):
        if union and interval.start <= union[-1].end:
            union[-1] = Interval(union[-1].start, max(union[-1].end, interval.end))
        else:
            union.append(interval)
    return union


def frame_size(questions: Sequence[Question], source: str) -> tuple[int, int]:
    """The smallest common (width, height) that holds all boxes, or, beyond those, the extent rounded up to even.

    source: what an error names. Raises AvstError for boxes further out than any frame reaches.
    """
    width, height = 0.0, 0.0
    for question in questions:
        for found in question.gold.objects:
            for box in found.track.boxes_px:
                width, height = max(width, box[2]), max(height, box[3])
        if max(width, height) > LARGEST_SIDE_PX:
            raise AvstError(
                f'{source}: {question.id}: field "A": a box reaches {max(width, height):g} px, '
                f"past the {LARGEST_SIDE_PX} px that a frame may have"
            )
    if width <= 0 or height <= 0:
        return _SIZE_WITHOUT_BOXES
    fitting = [size for size in _COMMON_SIZES if size[0] >= width and size[1] >= height]
    return min(fitting, key=lambda size: size[0] * size[1], default=(even(width), even(height)))


def even(length: float) -> int:
    """The next even number of pixels, at least 16: H.264 in yuv420p wants even sides."""
    return max(16, 2 * math.ceil(length / 2))
