"""A clip as PyAV reads it back: what the tests of pixels and sound look at, apart from avst's own decoder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np


@dataclass
class Decoded:
    """frames: uint8 (T, H, W, 3); times_s (T,); audio: float (N,), sample i heard at i / rate."""

    frames: np.ndarray
    times_s: np.ndarray
    audio: np.ndarray
    rate: int

    def at(self, time_s: float) -> np.ndarray:
        """The frame on screen at this time."""
        return self.frames[int(np.searchsorted(self.times_s, time_s + 1e-4, side="right")) - 1]


def decode(path: Path) -> Decoded:
    with av.open(str(path)) as container:
        pictures = [(frame.time, frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    with av.open(str(path)) as container:
        chunks = list(container.decode(audio=0))
        rate = container.streams.audio[0].rate
    start = float(chunks[0].pts * chunks[0].time_base)
    samples = np.concatenate([chunk.to_ndarray()[0] for chunk in chunks])
    audio = np.concatenate([np.zeros(max(0, round(start * rate))), samples[max(0, round(-start * rate)) :]])
    return Decoded(np.stack([p for _, p in pictures]), np.array([t for t, _ in pictures]), audio, rate)


def of_colour(image: np.ndarray, colour: tuple[int, int, int], within: int = 45) -> np.ndarray:
    """bool (H, W): pixels no channel of which is further than `within` from the colour."""
    return (np.abs(image.astype(int) - np.array(colour)) <= within).all(axis=-1)


def band_level(audio: np.ndarray, rate: int, hz: float, width_hz: float = 12.0) -> float:
    """Root of the mean power of a stretch of sound within width_hz of a frequency, by FFT."""
    spectrum = np.fft.rfft(audio * np.hanning(len(audio)))
    near = np.abs(np.fft.rfftfreq(len(audio), 1 / rate) - hz) <= width_hz
    return float(np.sqrt(np.sum(np.abs(spectrum[near]) ** 2)) / len(audio))
