"""Where the clip's clock starts, and at which times frames are taken. Pure functions.

t = 0 is the earliest start among the clip's picture and its sound, as players have it: a file whose first frame has
pts 5 s and whose sound has pts 5.2 s begins at t = 0, its sound at t = 0.2. Annotated times are seconds of this
clock. The frame of time t is the last one with pts <= t (before the first frame: the first one; after the last: the
last one).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

# Time bases round: a 10 s Matroska file may say 10.001 s. Less than this past the last step is no frame of its own.
END_SLACK_S = 0.002
# Float error only: a frame is "at t" when its pts is at most this much after it.
PTS_SLACK_S = 1e-6

Picture = TypeVar("Picture")


@dataclass(frozen=True, slots=True)
class FrameClock:
    """times_s: float64 (T,), T even and >= 2, from 0 in steps of 1 / fps;  fps: the rate that was used."""

    times_s: np.ndarray
    fps: float


def frame_clock(end_s: float, fps: float, max_frames: int | None = None) -> FrameClock:
    """The times at which a picture that ends at `end_s` is sampled.

    T is made even (Qwen pairs frames) by one more step, at which the last frame is still held. Where T would pass
    `max_frames` the clock is slowed uniformly, so that T steps cover the clip exactly: fps = T / end_s.

    Example: frame_clock(10.0, 2.0) has times 0, 0.5 … 9.5; frame_clock(10.0, 2.0, 8) has 8 steps of 1.25 s at 0.8 fps.
    """
    n = max(1, math.ceil((end_s - END_SLACK_S) * fps))
    n += n % 2
    if max_frames is not None and n > max_frames:
        n = max_frames - max_frames % 2
        fps = n / end_s
    return FrameClock(np.arange(n, dtype=np.float64) / fps, fps)


def shown_at(pictures: Iterable[tuple[float, Picture]], times_s: Iterable[float]) -> Iterator[tuple[float, Picture]]:
    """(t, picture on screen at t) for each asked time, from pictures (start second, picture) in display order.

    Reads `pictures` only as far as needed and holds two at most. Yields nothing if there is no picture at all.
    """
    coming = iter(pictures)
    shown = next(coming, None)
    following = next(coming, None)
    for t in times_s:
        while following is not None and following[0] <= t + PTS_SLACK_S:
            shown, following = following, next(coming, None)
        if shown is None:
            return
        yield t, shown[1]
