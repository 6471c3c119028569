"""Test films made in code: every frame carries its number in black and white bars, every tone is known.

A frame's number is written in ten vertical bars, most significant bit first: it survives H.264 and any resizing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

BITS = 10
TICKS = 600  # a time base in which 24, 25, 30, 50 and 60 frames a second are whole numbers


def picture(number: int, width: int, height: int) -> np.ndarray:
    """uint8 (height, width, 3): the number in bars."""
    bits = [number >> (BITS - 1 - i) & 1 for i in range(BITS)]
    columns = np.array(bits, np.uint8)[np.arange(width) * BITS // width] * 255
    return np.broadcast_to(columns[None, :, None], (height, width, 3)).copy()


def number_of(frame: np.ndarray) -> int:
    """The number in a frame, read in the middle of each bar."""
    width = frame.shape[1]
    bars = [frame[frame.shape[0] // 2, int((i + 0.5) * width / BITS)].mean() > 127 for i in range(BITS)]
    return sum(int(bit) << (BITS - 1 - i) for i, bit in enumerate(bars))


def numbers_of(frames: np.ndarray) -> list[int]:
    return [number_of(frame) for frame in frames]


def tone(hertz: float, seconds: float, rate: int, level: float = 0.5) -> np.ndarray:
    """float32 (N,) sine."""
    return (level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


@dataclass
class Film:
    """times_s: the pts of each frame; last_s: how long the last is shown; sound: float32 (channels, N)."""

    times_s: Sequence[float] = field(default_factory=lambda: [i / 25 for i in range(100)])
    last_s: float = 0.04
    size: tuple[int, int] = (160, 120)
    pixels: str = "yuv420p"
    codec: str = "libx264"
    options: dict[str, str] = field(default_factory=lambda: {"g": "12", "crf": "12"})
    rotation: int = 0
    sound: np.ndarray | None = None
    sound_rate: int = 48000
    sound_start_s: float = 0.0
    sound_gap: tuple[float, float] | None = None  # seconds (from, to) of sound that is left out
    sound_codec: str = "aac"


def write(path: Path, film: Film, **container: Any) -> Path:
    """Write a film; the ending of `path` chooses the container."""
    with av.open(str(path), "w", **container) as out:
        video = out.add_stream(film.codec, rate=25)
        video.width, video.height, video.pix_fmt = *film.size, film.pixels
        video.codec_context.time_base = video.time_base = Fraction(1, TICKS)
        video.options = film.options
        if film.rotation:
            video.set_display_rotation(film.rotation)
        audio = None
        if film.sound is not None:
            layout = {1: "mono", 2: "stereo", 4: "4.0"}[len(film.sound)]
            audio = out.add_stream(film.sound_codec, rate=film.sound_rate, layout=layout)
        times = [round(t * TICKS) for t in film.times_s]
        ends = [*times[1:], times[-1] + round(film.last_s * TICKS)]
        for i, (start, end) in enumerate(zip(times, ends, strict=True)):
            frame = av.VideoFrame.from_ndarray(picture(i, *film.size), "rgb24").reformat(format=film.pixels)
            frame.pts, frame.duration, frame.time_base = start, end - start, Fraction(1, TICKS)
            _mux(out, video.encode(frame), times, ends)
        _mux(out, video.encode(), times, ends)
        if audio is not None:
            _write_sound(out, audio, film)
    return path


def _mux(out: Any, packets: list[Any], times: list[int], ends: list[int]) -> None:
    """With each frame's true duration, of which the encoder knows nothing."""
    for packet in packets:
        packet.duration = ends[times.index(packet.pts)] - packet.pts
        out.mux(packet)


def _write_sound(out: Any, audio: Any, film: Film) -> None:
    """In pieces of 1024 samples (AAC's own), each with its pts; a gap leaves pieces out."""
    assert film.sound is not None
    start = round(film.sound_start_s * film.sound_rate)
    layout = audio.codec_context.layout.name
    for at in range(0, film.sound.shape[1], 1024):
        seconds = (start + at) / film.sound_rate
        if film.sound_gap is not None and film.sound_gap[0] <= seconds < film.sound_gap[1]:
            continue
        piece = np.ascontiguousarray(film.sound[:, at : at + 1024])
        packed = audio.codec_context.format.name
        if packed == "s16":
            piece = np.ascontiguousarray((piece.T.reshape(1, -1) * 32767).astype(np.int16))
        frame = av.AudioFrame.from_ndarray(piece, packed, layout)
        frame.sample_rate, frame.pts, frame.time_base = film.sound_rate, start + at, Fraction(1, film.sound_rate)
        out.mux(audio.encode(frame))
    out.mux(audio.encode())
