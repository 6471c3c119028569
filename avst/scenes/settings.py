"""How hard the scenes are: one dataclass, four presets.

Ranges are (low, high), both ends included. Sizes are shares of the frame's shorter side, so one preset serves every
resolution. The presets keep trivial answers poor: events fill about a third of the clip and an object about a tenth
of the frame, so the whole clip and the whole frame overlap little with the gold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from fractions import Fraction
from typing import Any, Literal

from avst.errors import AvstError
from avst.scenes.world import EVERYDAY_NAMES
from avst.types import TASKS, Task

Range = tuple[int, int]
Span = tuple[float, float]
LARGEST_SIDE_PX = 8192
AUDIO_RATES = (16000, 22050, 24000, 32000, 44100, 48000)  # what AAC knows, with every timbre's fundamental below half


@dataclass(frozen=True)
class SceneSettings:
    """All that shapes a scene besides its seed and index.

    duration_s: range; a clip's duration lies on the grid.  resolutions: (width, height), even.  fps: frame rates as
    text ("8", "30000/1001").  grid_s: every gold time is a multiple of it.  events: range per clip (fewer where they do
    not fit).  sound_s: range of an event's sounding-and-visible time.  n_sounding, n_silent, n_hidden: ranges per event
    of sounding-visible, silent-visible and sounding-hidden objects; max_objects bounds their sum per event.
    lead_s: how long at most an object may be seen before and after it sounds (or, with the chance offscreen, be heard
    before and after it is seen).  size: of an object's longer side.  speed: shares of the shorter side per second.
    slide: chance that an object enters or leaves through an edge.  zoom: range of its growth while visible.
    distractors: range of grey shapes that never sound.  noise: 0 to 1, of picture and sound.
    bearings: colours say where and when one is (avst/scenes/bearings.py), for models too small to find out.
    questions_per_clip: at most so many, 0 for all.  wording: the authors' data file or their paper.
    """

    duration_s: Span = (8.0, 8.0)
    resolutions: tuple[Range, ...] = ((112, 112), (128, 96))
    fps: tuple[str, ...] = ("8",)
    grid_s: float = 1.0
    events: Range = (1, 1)
    sound_s: Span = (2.0, 3.0)
    n_sounding: Range = (1, 1)
    n_silent: Range = (0, 1)
    n_hidden: Range = (0, 0)
    max_objects: int = 2
    lead_s: float = 1.0
    offscreen: float = 0.0
    size: Span = (0.3, 0.42)
    speed: Span = (0.0, 0.15)
    slide: float = 0.0
    zoom: Span = (1.0, 1.0)
    distractors: Range = (0, 0)
    noise: float = 0.0
    bearings: bool = False
    names: tuple[str, ...] = EVERYDAY_NAMES
    tasks: tuple[Task, ...] = TASKS
    questions_per_clip: int = 0
    wording: Literal["data", "paper"] = "data"
    audio_rate: int = 16000
    encoder_preset: str = "ultrafast"

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values, for the file that says how a folder was made."""
        return {k: _plain(v) for k, v in asdict(self).items()}


def _plain(value: Any) -> Any:
    return [_plain(v) for v in value] if isinstance(value, tuple) else value


PRESETS: Mapping[str, SceneSettings] = {
    # The smallest clips that still need eyes and ears (what is heard may be hidden, what is seen silent): for models of
    # a million parameters and a few minutes. The whole clip, the whole frame and the middle of it are poor answers.
    "quickstart": SceneSettings(
        duration_s=(6.0, 6.0),
        resolutions=((112, 112),),
        sound_s=(1.0, 2.0),
        grid_s=0.5,
        names=EVERYDAY_NAMES[:6],
        size=(0.35, 0.45),
        speed=(0.0, 0.1),
        bearings=True,
        n_silent=(0, 1),
        n_hidden=(0, 1),
        max_objects=3,
    ),
    "easy": SceneSettings(),
    "medium": SceneSettings(
        duration_s=(10.0, 16.0),
        resolutions=((160, 120), (224, 128), (320, 240), (180, 320)),
        fps=("8", "10", "12", "25"),
        grid_s=0.5,
        events=(1, 2),
        sound_s=(1.5, 5.0),
        n_sounding=(1, 2),
        n_silent=(0, 2),
        n_hidden=(0, 1),
        max_objects=4,
        lead_s=2.0,
        offscreen=0.3,
        size=(0.2, 0.36),
        speed=(0.0, 0.3),
        slide=0.4,
        zoom=(0.8, 1.25),
        distractors=(0, 2),
        noise=0.25,
        encoder_preset="veryfast",
    ),
    "hard": SceneSettings(
        duration_s=(20.0, 30.0),
        resolutions=((320, 240), (480, 360), (640, 360), (360, 640), (854, 480)),
        fps=("12", "15", "24", "25", "30", "30000/1001"),
        grid_s=0.5,
        events=(1, 3),
        sound_s=(2.0, 8.0),
        n_sounding=(1, 3),
        n_silent=(0, 3),
        n_hidden=(0, 2),
        max_objects=6,
        lead_s=3.0,
        offscreen=0.5,
        size=(0.12, 0.3),
        speed=(0.0, 0.5),
        slide=0.6,
        zoom=(0.6, 1.6),
        distractors=(1, 4),
        noise=0.5,
        audio_rate=44100,
        encoder_preset="superfast",
    ),
}


def make_settings(difficulty: str = "easy", **changes: Any) -> SceneSettings:
    """A preset with the given fields changed, checked. Raises AvstError naming the field that cannot be used."""
    if difficulty not in PRESETS:
        raise AvstError(f"difficulty: {difficulty!r} is not one of {', '.join(PRESETS)}")
    known = {f.name for f in fields(SceneSettings)}
    if unknown := sorted(set(changes) - known):
        raise AvstError(f"scene settings: unknown {unknown[0]!r}; known are {', '.join(sorted(known))}")
    settings = replace(PRESETS[difficulty], **changes)
    check_settings(settings)
    return settings


def check_settings(s: SceneSettings) -> None:
    """Raises AvstError with one line for the first field that cannot be used."""
    for name in ("duration_s", "events", "sound_s", "n_sounding", "n_silent", "n_hidden", "size", "speed", "zoom"):
        low, high = getattr(s, name)
        if not 0 <= low <= high:
            raise AvstError(f"scene settings: {name} wants 0 <= low <= high, not {low} and {high}")
    _require(s.grid_s > 0 and (1 / s.grid_s).is_integer(), "grid_s wants 1, 0.5, 0.25 …", s.grid_s)
    _require(s.duration_s[0] >= 2 * s.grid_s, "duration_s wants at least two grid steps", s.duration_s)
    _require(s.duration_s[1] <= 3600, "duration_s wants at most an hour", s.duration_s)
    _require(s.sound_s[0] > 0, "sound_s wants more than 0", s.sound_s)
    _require(s.sound_s[0] <= s.duration_s[0], "sound_s wants to fit into the duration", s.sound_s)
    _require(s.events[0] >= 1, "events wants at least 1", s.events)
    _require(s.n_sounding[0] >= 1, "n_sounding wants at least 1", s.n_sounding)
    _require(s.max_objects >= 1, "max_objects wants at least 1", s.max_objects)
    _require(s.size[0] > 0 and s.size[1] <= 0.9, "size wants shares in (0, 0.9]", s.size)
    _require(s.zoom[0] > 0, "zoom wants more than 0", s.zoom)
    _require(0 <= s.noise <= 1, "noise wants 0 to 1", s.noise)
    _require(s.audio_rate in AUDIO_RATES, f"audio_rate wants one of {', '.join(map(str, AUDIO_RATES))}", s.audio_rate)
    _require(s.wording in ("data", "paper"), "wording wants data or paper", s.wording)
    _require(bool(s.tasks) and set(s.tasks) <= set(TASKS), f"tasks wants some of {', '.join(TASKS)}", s.tasks)
    _require(bool(s.names) and all(n.strip() for n in s.names), "names wants at least one", s.names)
    _require(len({n.lower() for n in s.names}) == len(s.names), "names wants different ones", s.names)
    _require(not any(c in n for n in s.names for c in "<>\n,"), "names wants no comma or tag", s.names)
    _require(bool(s.resolutions) and bool(s.fps), "resolutions and fps want at least one entry each", s.resolutions)
    for width, height in s.resolutions:
        even = width % 2 == 0 and height % 2 == 0
        _require(even and min(width, height) >= 32, "resolutions wants even sides of 32 and more", (width, height))
        _require(max(width, height) <= LARGEST_SIDE_PX, f"resolutions wants at most {LARGEST_SIDE_PX}", (width, height))
    for rate in s.fps:
        parse_fps(rate)


def parse_fps(text: str) -> Fraction:
    """A frame rate from "8", "12.5" or "30000/1001". Raises AvstError outside 1 to 120."""
    try:
        rate = Fraction(text).limit_denominator(1001)
    except (ValueError, ZeroDivisionError) as error:
        raise AvstError(f"fps: cannot read {text!r} as a frame rate") from error
    _require(1 <= rate <= 120, "fps wants 1 to 120", text)
    return rate


def _require(fine: bool, wanted: str, value: Any) -> None:
    if not fine:
        raise AvstError(f"scene settings: {wanted}, not {value}")
