"""Frames and samples to an mp4 file (H.264 + AAC) through PyAV.

One encoder thread and no time stamps of the day: the same input gives the same bytes. A clip is written beside its
place and moved there when it is whole, so a file that is there can be read.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.video.stream import VideoStream

from avst.errors import AvstError

_CRF = 18  # flat colours stay within a few levels of what was drawn


def write_clip(
    path: Path,
    frames: Iterable[np.ndarray],
    fps: Fraction,
    size: tuple[int, int],
    audio: np.ndarray | None,
    audio_rate: int,
    preset: str = "ultrafast",
) -> None:
    """Writes frames (uint8 (H, W, 3) RGB, even sides, at least one) and mono audio (float32 (N,), None: no track).

    Both start at 0 on the file's clock. Raises AvstError naming the file where it cannot be written or encoded.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with av.open(str(unfinished), "w", format="mp4", options={"fflags": "+bitexact"}) as container:
            _encode(container, frames, fps, size, audio, audio_rate, preset)
        os.replace(unfinished, path)
    except (OSError, av.FFmpegError) as error:
        raise AvstError(f"{path}: cannot write the clip: {error}") from error
    finally:
        unfinished.unlink(missing_ok=True)


def _encode(
    container: OutputContainer,
    frames: Iterable[np.ndarray],
    fps: Fraction,
    size: tuple[int, int],
    audio: np.ndarray | None,
    audio_rate: int,
    preset: str,
) -> None:
    video = container.add_stream("libx264", rate=fps, options={"preset": preset, "crf": str(_CRF)})
    video.width, video.height = size
    video.pix_fmt = "yuv420p"
    video.codec_context.thread_count = 1
    video.codec_context.gop_size = max(1, round(2 * fps))
    sound = None
    if audio is not None:
        sound = container.add_stream("aac", rate=audio_rate, layout="mono", options={"b": "64k", "aac_coder": "fast"})
    written, pts = 0, 0
    for pts, picture in enumerate(frames):
        _mux_frame(container, video, picture, pts, fps)
        if sound is not None and audio is not None:  # keep the tracks side by side in the file
            upto = min(len(audio), round((pts + 1) / fps * audio_rate))
            _mux_audio(container, sound, audio[written:upto], written, audio_rate)
            written = max(written, upto)
    container.mux(video.encode(None))
    if sound is not None and audio is not None:
        _mux_audio(container, sound, audio[written:], written, audio_rate)
        container.mux(sound.encode(None))


def _mux_frame(container: OutputContainer, video: VideoStream, picture: np.ndarray, pts: int, fps: Fraction) -> None:
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
    frame.pts, frame.time_base = pts, 1 / fps
    container.mux(video.encode(frame))


def _mux_audio(container: OutputContainer, sound: AudioStream, samples: np.ndarray, start: int, rate: int) -> None:
    """Encodes samples that begin at sample number start; the encoder cuts them into its own frames."""
    if len(samples):
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[None, :]), format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
        container.mux(sound.encode(frame))
