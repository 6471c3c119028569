"""Samples: each sounding object's timbre on its intervals, over a floor of noise.

A timbre's fundamental, harmonics and beat are whole numbers of hertz, so one second of it is made once and looped.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from avst.scenes.world import thing
from avst.types import Interval

FADE_S = 0.01
_LEVEL = 0.25
_FLOOR = 0.0005  # never digital silence: some encoders and log-mels behave oddly there


def render_audio(
    cues: Sequence[tuple[str, Interval]], duration_s: float, rate: int, noise: float, seed: Sequence[int]
) -> np.ndarray:
    """float32 (N,) in [-1, 1], N = duration_s * rate rounded.

    cues: (name, when it sounds); parts outside the clip are not heard.  noise: 0 to 1, of which 1 is as loud as a tone.
    """
    n = round(duration_s * rate)
    rng = np.random.default_rng([*seed, 2])
    audio = rng.standard_normal(n, dtype=np.float32)
    audio *= np.float32(_FLOOR + 0.1 * noise)
    for name, interval in cues:
        start, end = max(0, round(interval.start * rate)), min(n, round(interval.end * rate))
        if end > start:
            audio[start:end] += _cue(name, end - start, rate)
    return np.clip(audio, -1.0, 1.0)


def _cue(name: str, n: int, rate: int) -> np.ndarray:
    """n samples of a name's timbre, faded in and out so that the borders make no click."""
    cue = np.resize(one_second(name, rate), n)
    fade = min(round(FADE_S * rate), n // 2)
    if fade:
        ramp = np.linspace(0, 1, fade, endpoint=False, dtype=np.float32)
        cue[:fade] *= ramp
        cue[n - fade :] *= ramp[::-1]
    return cue


@lru_cache(maxsize=256)
def one_second(name: str, rate: int) -> np.ndarray:
    """One second of a name's timbre, float32 (rate,), peak about a quarter; loops without a seam."""
    timbre = thing(name).timbre
    t = np.arange(rate) / rate
    wave = np.zeros(rate)
    for i, amplitude in enumerate(timbre.harmonics, start=1):
        if i * timbre.fundamental_hz < 0.45 * rate:
            wave += amplitude * np.sin(2 * np.pi * i * timbre.fundamental_hz * t)
    if timbre.beat_hz:
        wave *= 0.6 - 0.4 * np.cos(2 * np.pi * timbre.beat_hz * t)
    wave /= np.abs(wave).max()
    if timbre.breath:
        digest = hashlib.sha256(name.lower().encode("utf-8")).digest()
        breath = np.random.default_rng(list(digest[:8])).standard_normal(rate)
        wave += timbre.breath * breath / 3
    loop = (_LEVEL * wave).astype(np.float32)
    loop.flags.writeable = False
    return loop
