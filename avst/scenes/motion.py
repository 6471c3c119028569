"""Where an object is: paths, and their boxes on the clip's frames.

Frame i is on screen from i / fps until (i + 1) / fps. A gold box at time t is the box drawn in the frame that is on
screen at t (`frame_at`), so what is annotated is exactly what was drawn, at any frame rate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np

from avst.types import Interval

Side = Literal["left", "right", "top", "bottom"]
SLIDE_S = 0.5
_EPS = 1e-6


@dataclass(frozen=True, slots=True)
class Path:
    """A way through the frame while visible; pixels, seconds.

    Over the span the centre goes from start to start + travel ("linear"), to and fro along travel ("sway") or around
    start ("circle", radius the length of travel), kept inside the frame; the size grows linearly to zoom times itself.
    enter, leave: it slides in or out through that side within half a second, half of it outside at the very ends.
    """

    kind: Literal["linear", "sway", "circle"]
    span: Interval
    start: tuple[float, float]
    travel: tuple[float, float]
    size: tuple[float, float]
    zoom: float = 1.0
    period_s: float = 4.0
    enter: Side | None = None
    leave: Side | None = None


def frame_count(duration_s: float, fps: Fraction) -> int:
    """Frames of a clip, at least one."""
    return max(1, round(duration_s * fps))


def frame_at(time_s: float, fps: Fraction) -> int:
    """The frame on screen at this time; a time on a frame's border belongs to the later frame."""
    return math.floor(time_s * fps + _EPS)


def boxes_on_frames(path: Path, frame: tuple[int, int], fps: Fraction, n_frames: int) -> tuple[np.ndarray, np.ndarray]:
    """The drawn boxes, int64 (T, 4), which may stick out of the frame, and bool (T,): is it on screen at all?"""
    first = frame_at(path.span.start, fps)
    last = min(frame_at(path.span.end, fps), n_frames)
    seen = np.zeros(n_frames, dtype=bool)
    boxes = np.zeros((n_frames, 4), dtype=np.int64)
    if last > first:
        seen[first:last] = True
        # The first frame may have begun a little before the span did: hold the start until then.
        times = np.maximum(np.arange(first, last) / float(fps), path.span.start)
        boxes[first:last] = _boxes(path, frame, times)
    return boxes, seen


def clip_boxes(boxes: np.ndarray, frame: tuple[int, int]) -> np.ndarray:
    """Boxes cut at the frame's edges; shape (…, 4) kept."""
    width, height = frame
    return np.clip(boxes, 0, np.array([width, height, width, height]))


def _boxes(path: Path, frame: tuple[int, int], times: np.ndarray) -> np.ndarray:
    """Rounded boxes (T, 4) at times (T,), all of them inside the span."""
    share = (times - path.span.start) / (path.span.end - path.span.start)
    grown = 1 + (path.zoom - 1) * share
    half_w, half_h = path.size[0] * grown / 2, path.size[1] * grown / 2
    x, y = _centres(path, times, share)
    x = np.clip(x, half_w, np.maximum(half_w, frame[0] - half_w))
    y = np.clip(y, half_h, np.maximum(half_h, frame[1] - half_h))
    for side, away_s in ((path.enter, times - path.span.start), (path.leave, path.span.end - times)):
        out = 1 - np.clip(away_s / SLIDE_S, 0, 1)
        if side in ("left", "right"):
            x += out * ((0 if side == "left" else frame[0]) - x)
        elif side is not None:
            y += out * ((0 if side == "top" else frame[1]) - y)
    left, top = np.rint(x - half_w), np.rint(y - half_h)
    width, height = np.maximum(np.rint(2 * half_w), 4), np.maximum(np.rint(2 * half_h), 4)
    return np.stack([left, top, left + width, top + height], axis=1).astype(np.int64)


def _centres(path: Path, times: np.ndarray, share: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    (x, y), (dx, dy) = path.start, path.travel
    if path.kind == "linear":
        return x + dx * share, y + dy * share
    angle = 2 * np.pi * (times - path.span.start) / path.period_s
    if path.kind == "sway":
        return x + dx * np.sin(angle), y + dy * np.sin(angle)
    radius = math.hypot(dx, dy)
    return x + radius * (np.cos(angle) - 1), y + radius * np.sin(angle)
