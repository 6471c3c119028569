"""The things of the scenes: each name has a look of its own and a timbre of its own.

Sixteen everyday names are set by hand so that no two are alike at 112x112 or to a 16 kHz microphone; any other name
(the real annotations hold hundreds) gets a look and a timbre from a hash of it, the same on every machine.
"""

from __future__ import annotations

import colorsys
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

Shape = Literal["disc", "square", "diamond", "triangle", "cross", "ring", "hexagon", "bars"]
SHAPES: tuple[Shape, ...] = ("disc", "square", "diamond", "triangle", "cross", "ring", "hexagon", "bars")
Colour = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Look:
    """colour: RGB 0..255; aspect: width / height of the drawn box, whose four sides every shape touches.

    Example: Look("disc", (240, 140, 20), 1.0)
    """

    shape: Shape
    colour: Colour
    aspect: float = 1.0


@dataclass(frozen=True, slots=True)
class Timbre:
    """A tone: fundamental_hz with harmonics' amplitudes (the first is the fundamental's), beaten at beat_hz (0: steady)
    with the share breath of noise around it. Whole numbers of hertz, so that one second can be looped.

    Example: Timbre(373, (1.0, 0.4), beat_hz=5, breath=0.1)
    """

    fundamental_hz: int
    harmonics: tuple[float, ...] = (1.0,)
    beat_hz: int = 0
    breath: float = 0.0


@dataclass(frozen=True, slots=True)
class Thing:
    """A name with its look and timbre."""

    name: str
    look: Look
    timbre: Timbre


# Fundamentals are primes about a quarter apart, and no harmonic of one comes within 24 Hz of another's fundamental.
_EVERYDAY: Mapping[str, tuple[Look, Timbre]] = {
    "dog": (Look("disc", (240, 130, 20)), Timbre(317, (1.0, 0.6, 0.4), beat_hz=4, breath=0.1)),
    "bell": (Look("triangle", (250, 225, 40)), Timbre(1907, (1.0, 0.3), beat_hz=2)),
    "car": (Look("square", (220, 25, 40), 1.6), Timbre(137, (1.0, 0.8, 0.6, 0.4), beat_hz=0, breath=0.2)),
    "bird": (Look("diamond", (45, 120, 250)), Timbre(3257, (1.0,), beat_hz=9)),
    "frog": (Look("hexagon", (40, 190, 60), 1.2), Timbre(491, (1.0, 0.2, 0.6), beat_hz=6, breath=0.1)),
    "drum": (Look("square", (215, 40, 205)), Timbre(173, (1.0, 0.2), beat_hz=3, breath=0.3)),
    "flute": (Look("bars", (60, 215, 225), 0.6), Timbre(877, (1.0, 0.1))),
    "cow": (Look("cross", (12, 12, 12), 1.3), Timbre(229, (1.0, 0.7, 0.5), beat_hz=1)),
    "cat": (Look("diamond", (120, 40, 190)), Timbre(719, (1.0, 0.5, 0.2), beat_hz=2)),
    "sheep": (Look("disc", (248, 248, 248), 1.3), Timbre(601, (1.0, 0.5), beat_hz=8, breath=0.1)),
    "train": (Look("bars", (25, 35, 150), 1.8), Timbre(383, (1.0, 0.6, 0.3), breath=0.3)),
    "siren": (Look("triangle", (255, 120, 165)), Timbre(1237, (1.0, 0.4), beat_hz=1)),
    "whistle": (Look("ring", (165, 240, 60)), Timbre(2719, (1.0,), breath=0.1)),
    "clock": (Look("ring", (0, 120, 105)), Timbre(2251, (1.0, 0.2), beat_hz=2)),
    "guitar": (Look("hexagon", (125, 65, 20), 0.7), Timbre(1597, (1.0, 0.4, 0.2), beat_hz=3)),
    "baby": (Look("disc", (255, 205, 165), 0.8), Timbre(4597, (1.0,), beat_hz=5, breath=0.1)),
}
EVERYDAY_NAMES: tuple[str, ...] = tuple(_EVERYDAY)


@lru_cache(maxsize=4096)
def thing(name: str) -> Thing:
    """The thing of this name; case and outer spaces do not matter to its look and timbre."""
    key = " ".join(name.lower().split())
    look, timbre = _EVERYDAY[key] if key in _EVERYDAY else _hashed(key)
    return Thing(name, look, timbre)


def _hashed(key: str) -> tuple[Look, Timbre]:
    """Look and timbre from a SHA-256 of the name (Python's own hash differs from run to run)."""
    digest = hashlib.sha256(key.encode("utf-8")).digest()
    share = [b / 255 for b in digest]
    red, green, blue = colorsys.hsv_to_rgb(digest[0] / 256, 0.6 + 0.4 * share[1], 0.55 + 0.45 * share[2])
    colour = (round(255 * red), round(255 * green), round(255 * blue))
    look = Look(SHAPES[digest[3] % len(SHAPES)], colour, 0.7 + 0.9 * share[4])
    fundamental = round(150 * 2 ** (4.6 * (digest[5] * 256 + digest[6]) / 65535))  # 150 to 3638 Hz, even in pitch
    timbre = Timbre(fundamental, (1.0, 0.6 * share[7], 0.4 * share[8]), beat_hz=digest[9] % 8, breath=0.2 * share[10])
    return look, timbre
