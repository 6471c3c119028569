"""Frames and sound of a prompt as bytes that any decoder turns into the very same frames and samples.

vLLM's HTTP protocol takes a clip as a file, and sound that is interleaved with its frames only out of the same file. So
what the model is shown, already resized, travels as a Matroska file of FFV1 frames and float32 samples, both lossless.
"""

from __future__ import annotations

import base64
import io
from fractions import Fraction
from typing import Any

import av
import numpy as np

from avst.types import Shown

PIXELS = "bgr0"  # 8 bits a colour, as FFV1 stores them without conversion


def data_url(made_of: Shown) -> str:
    """A clip (frames, with its sound where there is any) or a sound alone, as a data URL."""
    kind = "video/x-matroska" if made_of.frames is not None else "audio/x-matroska"
    return f"data:{kind};base64,{base64.b64encode(lossless(made_of)).decode('ascii')}"


def lossless(made_of: Shown) -> bytes:
    """A Matroska file. The frames' times are those of the clock `fps`, to a thousandth of a second."""
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        video = _video_stream(container, made_of) if made_of.frames is not None else None
        audio = container.add_stream("pcm_f32le", rate=made_of.audio_rate) if made_of.audio is not None else None
        if audio is not None:
            audio.layout = "mono"
        if video is not None:
            for number, pixels in enumerate(np.asarray(made_of.frames)):
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=PIXELS)
                frame.pts, frame.time_base = number, 1 / _rate(made_of)
                container.mux(video.encode(frame))
            container.mux(video.encode(None))
        if audio is not None:
            samples = np.asarray(made_of.audio, np.float32)[None]
            sound = av.AudioFrame.from_ndarray(samples, format="flt", layout="mono")
            sound.sample_rate, sound.pts, sound.time_base = made_of.audio_rate, 0, Fraction(1, made_of.audio_rate)
            container.mux(audio.encode(sound))
            container.mux(audio.encode(None))
    return file.getvalue()


def _video_stream(container: Any, made_of: Shown) -> Any:
    stream = container.add_stream("ffv1", rate=_rate(made_of))
    stream.height, stream.width = int(made_of.frames.shape[1]), int(made_of.frames.shape[2])
    stream.pix_fmt = PIXELS
    return stream


def _rate(made_of: Shown) -> Fraction:
    return Fraction(made_of.fps).limit_denominator(1000)
