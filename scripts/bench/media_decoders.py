"""Other libraries' ways of decoding a clip at `fps` frames a second, as their users call them, for the media benchmark.

Each is a function (path, fps) -> frames; decord and torchcodec are asked for the very frames that avst takes,
qwen-vl-utils chooses its own: as many, spread evenly from the first frame to the last.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Decode = Callable[[Path, float], Any]


def others(fps_of_film: int, threads: int) -> tuple[dict[str, Decode], dict[str, str]]:
    """({name: decode to uint8 (T, H, W, 3), or (T, 3, H, W) for qwen's}, {name: why it cannot be used})."""
    os.environ["TORCHCODEC_NUM_THREADS"] = str(threads)  # qwen-vl-utils' own switch
    found: dict[str, Decode] = {}
    missing: dict[str, str] = {}
    for name, make in (
        ("decord", _decord),
        ("torchcodec", _torchcodec),
        ("qwen-vl-utils with decord", _qwen("decord")),
        ("qwen-vl-utils with torchcodec", _qwen("torchcodec")),
        ("qwen-vl-utils with torchvision", _qwen("torchvision")),
    ):
        try:
            found[name] = make(fps_of_film, threads)
        except (ImportError, OSError, RuntimeError) as error:  # torchcodec: RuntimeError without FFmpeg's libraries
            missing[name] = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
    return found, missing


def whole_qwen() -> Decode:
    """qwen-vl-utils' fetch_video: decoded by its best backend, resized as for the model: float32 (T, 3, H, W)."""
    from qwen_vl_utils import vision_process

    return lambda path, fps: vision_process.fetch_video({"video": str(path), "fps": fps})


def _decord(fps_of_film: int, threads: int) -> Decode:
    import decord

    def decode(path: Path, fps: float) -> np.ndarray:
        reader = decord.VideoReader(str(path), ctx=decord.cpu(0), num_threads=threads)
        times = np.arange(0, len(reader) / fps_of_film, 1 / fps)
        frames: np.ndarray = reader.get_batch(np.floor(times * fps_of_film + 1e-6).astype(int).tolist()).asnumpy()
        return frames

    return decode


def _torchcodec(fps_of_film: int, threads: int) -> Decode:
    from torchcodec.decoders import VideoDecoder

    def decode(path: Path, fps: float) -> Any:
        reader = VideoDecoder(str(path), num_ffmpeg_threads=threads, dimension_order="NHWC")
        times = np.arange(0, len(reader) / fps_of_film, 1 / fps)
        return reader.get_frames_played_at((times + 1e-6).tolist()).data.numpy()

    return decode


def _qwen(backend: str) -> Callable[[int, int], Decode]:
    def make(fps_of_film: int, threads: int) -> Decode:
        if backend == "torchvision":
            from torchvision.io import read_video  # noqa: F401  (not in every version)
        elif backend == "decord":
            import decord  # noqa: F401
        else:
            import torchcodec.decoders  # noqa: F401
        from qwen_vl_utils import vision_process

        read = vision_process.VIDEO_READER_BACKENDS[backend]
        return lambda path, fps: read({"video": str(path), "fps": fps})[0]

    return make
