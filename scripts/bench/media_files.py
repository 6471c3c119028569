"""Films for the media benchmark, made in code: moving texture with grain and cuts, at the bit rate of real clips."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

SOUND_RATE = 44100
BLOCK = 1024  # AAC's own


def write_film(path: Path, seconds: float, size: tuple[int, int] = (480, 360), fps: int = 30) -> Path:
    """H.264 by x264's own defaults (keyframes up to 250 frames apart, three B-frames) and stereo AAC."""
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=fps)
        video.width, video.height, video.pix_fmt = *size, "yuv420p"
        audio = out.add_stream("aac", rate=SOUND_RATE, layout="stereo")
        for picture in _pictures(round(seconds * fps), size):
            out.mux(video.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        out.mux(video.encode())
        _write_sound(out, audio, seconds)
    return path


def copies(film: Path, folder: Path, n: int) -> list[Path]:
    """The film n times, each with other bytes behind its end (an MP4 "free" box), so that no two are one to a cache."""
    folder.mkdir(parents=True, exist_ok=True)
    data = film.read_bytes()
    paths = [folder / f"{i:04d}.mp4" for i in range(n)]
    for i, path in enumerate(paths):
        path.write_bytes(data + (16).to_bytes(4, "big") + b"free" + i.to_bytes(8, "big"))
    return paths


def _pictures(n: int, size: tuple[int, int]) -> Iterator[np.ndarray]:
    """uint8 (height, width, 3): a window that wanders over a texture, a red square, a cut every 10 s."""
    width, height = size
    random = np.random.default_rng(0)
    coarse = np.clip(128 + 60 * random.normal(size=(height // 4, width // 4, 3)), 0, 255).astype(np.uint8)
    texture = av.VideoFrame.from_ndarray(coarse, "rgb24").reformat(2 * width, 2 * height, interpolation="BICUBIC")
    field = texture.to_ndarray().astype(np.int16)
    grain = random.integers(-6, 7, size=(8, height, width, 1), dtype=np.int16)
    for i in range(n):
        x, y = int(width / 2 * (1 + np.sin(i / 97))), int(height / 2 * (1 + np.cos(i / 71)))
        picture = field[y : y + height, x : x + width] + grain[i % 8]
        side = height // 4
        left = (width - side) * (i % 210) // 210
        picture[side : 2 * side, left : left + side] = (220, 40, 40)
        yield np.clip(255 - picture if i // 300 % 2 else picture, 0, 255).astype(np.uint8)


def _write_sound(out: Any, stream: Any, seconds: float) -> None:
    """Two tones and some noise."""
    n = round(seconds * SOUND_RATE)
    t = np.arange(n) / SOUND_RATE
    noise = np.random.default_rng(1).normal(scale=0.05, size=(2, n))
    sound = (0.4 * np.sin(2 * np.pi * np.array([[440], [660]]) * t) + noise).astype(np.float32)
    for at in range(0, n, BLOCK):
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound[:, at : at + BLOCK]), "fltp", "stereo")
        frame.sample_rate, frame.pts, frame.time_base = SOUND_RATE, at, Fraction(1, SOUND_RATE)
        out.mux(stream.encode(frame))
    out.mux(stream.encode())
