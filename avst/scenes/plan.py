"""Who is seen and who is heard, when and where: a scene before any pixel is drawn.

The clip's time is cut into one slot per event. An event's interval [s, e] lies in its slot; every object keeps to the
slot of its event, and no name comes twice in a clip, so each question has one exact answer. A sounding-visible object
is visible *and* sounding on exactly one interval: either it is seen longer than it is heard, or heard longer than seen.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np

from avst.scenes.motion import Path, Side, boxes_on_frames, clip_boxes, frame_count
from avst.scenes.settings import SceneSettings, parse_fps
from avst.scenes.world import SHAPES, Look, Thing, thing
from avst.types import Interval

Role = Literal["sounding", "silent", "hidden"]
_PLACEMENTS = 24


@dataclass(frozen=True, slots=True)
class Actor:
    """One object. path None: never seen; sound None: never heard. A silent one has no sound, a hidden one no path."""

    thing: Thing
    role: Role
    path: Path | None
    sound: Interval | None

    @property
    def visible(self) -> Interval | None:
        return None if self.path is None else self.path.span

    @property
    def sounding_visible(self) -> Interval | None:
        """When it is seen and heard at once; None where never."""
        if self.path is None or self.sound is None:
            return None
        start, end = max(self.path.span.start, self.sound.start), min(self.path.span.end, self.sound.end)
        return Interval(start, end) if end > start else None


@dataclass(frozen=True, slots=True)
class Event:
    """What happens in one slot. Example: Event(Interval(2.0, 5.0), (0, 1)) with positions in Scene.actors."""

    interval: Interval
    actors: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Scene:
    """All that is needed to draw, sound and annotate one clip; equal seeds give equal scenes.

    size: (width, height) px;  distractors: grey shapes with their paths;  seed: of the noise and the background.
    """

    name: str
    duration_s: float
    size: tuple[int, int]
    fps: Fraction
    actors: tuple[Actor, ...]
    events: tuple[Event, ...]
    distractors: tuple[tuple[Look, Path], ...] = ()
    noise: float = 0.0
    bearings: bool = False
    seed: tuple[int, ...] = (0,)

    @property
    def n_frames(self) -> int:
        return frame_count(self.duration_s, self.fps)


def plan_scene(settings: SceneSettings, seed: int, index: int) -> Scene:
    """The scene of one clip, a function of (settings, seed, index) alone."""
    rng = np.random.default_rng([seed, index])
    grid = settings.grid_s
    duration = grid * rng.integers(math.ceil(settings.duration_s[0] / grid), int(settings.duration_s[1] / grid) + 1)
    size = settings.resolutions[rng.integers(len(settings.resolutions))]
    fps = parse_fps(settings.fps[rng.integers(len(settings.fps))])
    names = list(rng.permutation(np.array(settings.names, dtype=object)))
    stage = _Stage(settings, rng, size, fps, frame_count(duration, fps))
    actors: list[Actor] = []
    events: list[Event] = []
    for slot in _slots(settings, rng, float(duration)):
        interval = _inside(rng, slot, settings.sound_s, grid)
        cast = stage.event(slot, interval, names)
        events.append(Event(interval, tuple(range(len(actors), len(actors) + len(cast)))))
        actors += cast
    distractors = tuple(stage.distractor(float(duration)) for _ in range(_draw(rng, settings.distractors)))
    name = f"scene{seed}_{index:05d}"
    return Scene(
        name=name,
        duration_s=float(duration),
        size=size,
        fps=fps,
        actors=tuple(actors),
        events=tuple(events),
        distractors=distractors,
        noise=settings.noise,
        bearings=settings.bearings,
        seed=(seed, index),
    )


def _draw(rng: np.random.Generator, bounds: tuple[int, int]) -> int:
    return int(rng.integers(bounds[0], bounds[1] + 1))


def _slots(settings: SceneSettings, rng: np.random.Generator, duration_s: float) -> list[Interval]:
    """One slot per event, equal parts of the clip on the grid; fewer events where the shortest would not fit."""
    steps = round(duration_s / settings.grid_s)
    needed = math.ceil(settings.sound_s[0] / settings.grid_s)
    count = max(1, min(_draw(rng, settings.events), steps // max(needed, 1)))
    borders = [i * steps // count for i in range(count + 1)]
    return [Interval(a * settings.grid_s, b * settings.grid_s) for a, b in itertools.pairwise(borders)]


def _inside(rng: np.random.Generator, slot: Interval, length_s: tuple[float, float], grid: float) -> Interval:
    """A random interval of the slot on the grid, its length within bounds as far as the slot allows."""
    steps = round((slot.end - slot.start) / grid)
    low = min(max(1, math.ceil(length_s[0] / grid)), steps)
    high = max(low, min(int(length_s[1] / grid), steps))
    length = _draw(rng, (low, high))
    start = slot.start + grid * _draw(rng, (0, steps - length))
    return Interval(start, start + grid * length)


@dataclass(slots=True)
class _Stage:
    """Casts events and places their objects; holds what all of that needs."""

    settings: SceneSettings
    rng: np.random.Generator
    size: tuple[int, int]
    fps: Fraction
    n_frames: int

    def event(self, slot: Interval, interval: Interval, names: list[str]) -> list[Actor]:
        """The event's objects, at most max_objects and as many as there are names left (taken from names)."""
        s = self.settings
        counts: list[tuple[Role, tuple[int, int]]] = [
            ("sounding", s.n_sounding),
            ("silent", s.n_silent),
            ("hidden", s.n_hidden),
        ]
        wanted: list[Role] = [role for role, bounds in counts for _ in range(_draw(self.rng, bounds))]
        # The first, a sounding one, is what the event is about; of the others a random few may stay.
        kept = [0, *sorted(1 + self.rng.permutation(len(wanted) - 1)[: s.max_objects - 1])]
        cast: list[Actor] = []
        for i in kept:
            if names:
                during = interval if i == 0 or self.rng.random() >= s.offscreen else self._part(interval)
                cast.append(self._actor(wanted[i], slot, during, thing(names.pop()), cast))
        return cast

    def _part(self, interval: Interval) -> Interval:
        """A part of the event of a second and more, so that one of the box lines falls into it."""
        return _inside(self.rng, interval, (1.0, interval.end - interval.start), self.settings.grid_s)

    def _actor(self, role: Role, slot: Interval, interval: Interval, what: Thing, cast: list[Actor]) -> Actor:
        if role == "hidden":
            return Actor(what, role, None, _inside(self.rng, slot, self.settings.sound_s, self.settings.grid_s))
        longer = self._lengthened(interval, slot)
        if role == "silent":
            return Actor(what, role, self._place(what.look, longer, cast), None)
        heard_longer = self.rng.random() < self.settings.offscreen
        seen, heard = (interval, longer) if heard_longer else (longer, interval)
        return Actor(what, role, self._place(what.look, seen, cast), heard)

    def _lengthened(self, interval: Interval, slot: Interval) -> Interval:
        """The interval with up to lead_s more on either side, within the slot."""
        grid, steps = self.settings.grid_s, int(self.settings.lead_s / self.settings.grid_s)
        before, after = (grid * _draw(self.rng, (0, steps)) for _ in range(2))
        return Interval(max(slot.start, interval.start - before), min(slot.end, interval.end + after))

    def _place(self, look: Look, span: Interval, cast: list[Actor]) -> Path:
        """Of some random paths the one that overlaps the others least (the first that does not at all)."""
        others = [boxes_on_frames(a.path, self.size, self.fps, self.n_frames) for a in cast if a.path is not None]
        best, least = self._path(look, span), math.inf
        for attempt in range(_PLACEMENTS):
            path = best if attempt == 0 else self._path(look, span)
            overlap = self._overlap(path, others)
            if overlap < least:
                best, least = path, overlap
            if overlap == 0:
                break
        return best

    def _overlap(self, path: Path, others: list[tuple[np.ndarray, np.ndarray]]) -> float:
        """The largest share of a box, this one's or another's, that two of them ever have in common."""
        mine, seen = boxes_on_frames(path, self.size, self.fps, self.n_frames)
        mine, worst = clip_boxes(mine, self.size), 0.0
        for their, their_seen in others:
            both = seen & their_seen
            a, b = mine[both], clip_boxes(their[both], self.size)
            if len(a):
                sides = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
                common = np.prod(np.maximum(sides, 0), axis=1)
                smaller = np.minimum(*(np.prod(c[:, 2:] - c[:, :2], axis=1) for c in (a, b)))
                worst = max(worst, float(np.max(common / np.maximum(smaller, 1))))
        return worst

    def _path(self, look: Look, span: Interval) -> Path:
        s, rng, (width, height) = self.settings, self.rng, self.size
        short = min(width, height)
        longer = short * rng.uniform(*s.size)
        size = (longer, longer / look.aspect) if look.aspect >= 1 else (longer * look.aspect, longer)
        half_w, half_h = size[0] / 2, size[1] / 2
        start = (rng.uniform(half_w, max(half_w, width - half_w)), rng.uniform(half_h, max(half_h, height - half_h)))
        kind: Literal["linear", "sway", "circle"] = ("linear", "sway", "circle")[rng.integers(3)]
        period = rng.uniform(2.5, 6.0)
        # speed is the mean speed of a linear path; around a circle and to and fro it is met over a quarter period.
        length = short * rng.uniform(*s.speed) * ((span.end - span.start) if kind == "linear" else period / 4)
        angle = rng.uniform(0, 2 * math.pi)
        travel = (length * math.cos(angle), length * math.sin(angle))
        enter, leave = (self._side(start) if rng.random() < s.slide else None for _ in range(2))
        zoom = rng.uniform(*s.zoom)
        return Path(kind, span, start, travel, size, zoom, period, enter, leave)

    def _side(self, start: tuple[float, ...]) -> Side:
        """The side nearest to the start, or sometimes the second nearest."""
        x, y = start[0] / self.size[0], start[1] / self.size[1]
        sides: list[tuple[float, Side]] = [(x, "left"), (1 - x, "right"), (y, "top"), (1 - y, "bottom")]
        return sorted(sides)[int(self.rng.random() < 0.3)][1]

    def distractor(self, duration_s: float) -> tuple[Look, Path]:
        """A grey shape that is no one's: no name has a grey look."""
        shade = int(self.rng.integers(60, 190))
        look = Look(SHAPES[self.rng.integers(len(SHAPES))], (shade, shade, shade))
        span = _inside(self.rng, Interval(0.0, duration_s), (duration_s / 3, duration_s), self.settings.grid_s)
        return look, self._path(look, span)
