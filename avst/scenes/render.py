"""Pixels: a quiet background, then the shapes, far ones first.

A shape touches all four sides of its box and is one flat colour with a darker inlay, so that the annotated box is
exact to the pixel and the colour survives the encoder.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

import numpy as np

from avst.scenes import bearings
from avst.scenes.motion import boxes_on_frames
from avst.scenes.plan import Scene
from avst.scenes.world import Look, Shape

_INLAY_SHARE = 0.3
_GRAIN = 40.0


def scene_frames(scene: Scene) -> Iterator[np.ndarray]:
    """The clip's frames, uint8 (H, W, 3) RGB, one after the other."""
    shown: list[tuple[Look, np.ndarray, np.ndarray]] = []
    for look, path in scene.distractors:
        shown.append((look, *boxes_on_frames(path, scene.size, scene.fps, scene.n_frames)))
    for actor in scene.actors:
        if actor.path is not None:
            shown.append((actor.thing.look, *boxes_on_frames(actor.path, scene.size, scene.fps, scene.n_frames)))
    per_frame = ([(look, boxes[i]) for look, boxes, seen in shown if seen[i]] for i in range(scene.n_frames))
    if not scene.bearings:
        return draw_frames(per_frame, scene.size, scene.noise, scene.seed)
    return _with_bearings(per_frame, scene)


def _with_bearings(per_frame: Iterable[Sequence[tuple[Look, np.ndarray]]], scene: Scene) -> Iterator[np.ndarray]:
    ground = bearings.ground(scene.size) + grain(scene.size, scene.noise, np.random.default_rng([*scene.seed, 1]))
    for time, shapes in zip(np.linspace(0, 1, scene.n_frames), per_frame, strict=True):
        frame = bearings.at_time(ground, float(time))
        for look, box in shapes:
            draw(frame, look, box)
        bearings.dot(frame, float(time))
        yield frame


def draw_frames(
    per_frame: Iterable[Sequence[tuple[Look, np.ndarray]]], size: tuple[int, int], noise: float, seed: Sequence[int]
) -> Iterator[np.ndarray]:
    """One frame per entry: a list of (look, box (4,) int) in drawing order; boxes may stick out of the frame."""
    rng = np.random.default_rng([*seed, 1])
    ground = background(size, noise, rng)
    for shapes in per_frame:
        frame = ground.copy()
        for look, box in shapes:
            draw(frame, look, box)
        yield frame


def background(size: tuple[int, int], noise: float, rng: np.random.Generator) -> np.ndarray:
    """uint8 (H, W, 3): a greyish slope between corners, darker than a sheep and lighter than a cow, with grain.

    The grain stands still: new in every frame it would be most of what the encoder spends time and bytes on.
    """
    width, height = size
    corners = rng.uniform(85, 145, (2, 2, 1)) + rng.uniform(-10, 10, (2, 2, 3))
    down = np.linspace(0, 1, height)[:, None, None]
    across = np.linspace(0, 1, width)[None, :, None]
    top = corners[0, 0] * (1 - across) + corners[0, 1] * across
    bottom = corners[1, 0] * (1 - across) + corners[1, 1] * across
    slope = top * (1 - down) + bottom * down
    return np.clip(np.rint(slope + grain(size, noise, rng)), 40, 200).astype(np.uint8)


def grain(size: tuple[int, int], noise: float, rng: np.random.Generator) -> np.ndarray:
    """float (H, W, 1): grains of 3 x 3 pixels, lighter and darker."""
    width, height = size
    grains = rng.standard_normal((-(-height // 3), -(-width // 3), 1)) * _GRAIN * noise
    return grains.repeat(3, axis=0).repeat(3, axis=1)[:height, :width]


def draw(frame: np.ndarray, look: Look, box: np.ndarray) -> None:
    """Draws a look into its box (x1, y1, x2, y2), whatever of it lies inside the frame; changes frame."""
    height, width = frame.shape[:2]
    x1, y1, x2, y2 = (int(v) for v in box)
    left, top, right, bottom = max(x1, 0), max(y1, 0), min(x2, width), min(y2, height)
    if right <= left or bottom <= top:
        return
    outer, inlay = shape_masks(look.shape, x2 - x1, y2 - y1)
    cut = (slice(top - y1, bottom - y1), slice(left - x1, right - x1))
    region = frame[top:bottom, left:right]
    region[outer[cut]] = look.colour
    region[inlay[cut]] = tuple(c * 5 // 8 for c in look.colour)


@lru_cache(maxsize=1024)
def shape_masks(shape: Shape, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """bool (height, width) of the shape, and of its inlay: the same shape at a third of the size, inside it."""
    x = (2 * np.arange(width) + 1 - width) / width
    y = ((2 * np.arange(height) + 1 - height) / height)[:, None]
    outer = _inside(shape, x, y, 1 / width, 1 / height)
    inlay = outer & (np.maximum(np.abs(x), np.abs(y)) < _INLAY_SHARE) & (np.abs(x) + np.abs(y) < 1.4 * _INLAY_SHARE)
    return outer, inlay


def _inside(shape: Shape, x: np.ndarray, y: np.ndarray, dx: float, dy: float) -> np.ndarray:
    """Which pixel centres (x (W,), y (H, 1) in (-1, 1)) belong to the shape, with slack to reach the sides."""
    whole = np.ones((len(y), len(x)), dtype=bool)
    if shape == "disc":
        return x**2 + y**2 <= 1 + dx * dx + dy * dy
    if shape == "diamond":
        return np.abs(x) + np.abs(y) <= 1 + max(dx, dy)
    if shape == "triangle":
        return whole & (np.abs(x) <= (y + 1) / 2 + dx)
    if shape == "cross":
        return (np.abs(x) <= 0.36) | (np.abs(y) <= 0.36)
    if shape == "ring":
        radius = x**2 + y**2
        return (radius <= 1 + dx * dx + dy * dy) & (radius >= 0.2)
    if shape == "hexagon":
        return np.abs(x) + 0.5 * np.abs(y) <= 1 + dx
    if shape == "bars":
        return whole & ((np.floor((x + 1) * 2.5) % 2 == 0) | (np.abs(y) <= 0.25))
    return whole
