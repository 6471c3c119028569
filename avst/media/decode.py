"""Which two functions decode: PyAV's, or those of a library that is installed beside it.

Every decoder module has the functions of avst.media.pyav_decoder (see there):

    decode_video(path, scan, times_s, size) -> iterator of uint8 (H, W, 3)
    decode_audio(path, scan, rate, channels) -> float32 array or None

The clock is always PyAV's scan, so the times mean the same whatever decodes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from typing import TypeAlias

import numpy as np

from avst.media.scan import Scan
from avst.media.settings import Channels, MediaError

DecodeVideo: TypeAlias = Callable[[str, Scan, Sequence[float], tuple[int, int] | None], Iterator[np.ndarray]]
DecodeAudio: TypeAlias = Callable[[str, Scan, int, Channels], np.ndarray | None]


def decoder(name: str) -> tuple[DecodeVideo, DecodeAudio]:
    """(decode_video, decode_audio) of a decoder by name. MediaError with the cause where it cannot be loaded."""
    try:
        module = import_module(f"avst.media.{name}_decoder")
    except (ImportError, OSError, RuntimeError) as error:  # torchcodec: RuntimeError without FFmpeg's libraries
        cause = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise MediaError(f"the decoder {name} cannot be used here: {cause[:200]}") from error
    return module.decode_video, module.decode_audio
