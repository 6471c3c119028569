"""The waveform of a clip, small enough for a page: the loudest and the mean level of every piece of it."""

from __future__ import annotations

import math

import numpy as np

RATE = 16000  # Hz; lower rates would filter high voices and whistles out of the picture
PIECES_PER_S = 100
MOST_PIECES = 1200


def waveform(audio: np.ndarray | None, rate: int, duration_s: float) -> dict[str, object] | None:
    """{"peak", "rms": two hexadecimal digits a piece, 255 is the clip's own loudest sample; "s": seconds a piece}.

    audio: float32 (N,), from second 0;  None where there is no track, or nothing but silence.
    """
    if audio is None or audio.size == 0 or duration_s <= 0:
        return None
    loudest = float(np.abs(audio).max())
    if not loudest > 0:
        return None
    n_pieces = min(MOST_PIECES, max(1, math.ceil(duration_s * PIECES_PER_S)))
    size = math.ceil(duration_s * rate / n_pieces)
    padded = np.zeros(size * n_pieces, dtype=np.float32)
    padded[: min(audio.size, padded.size)] = audio[: padded.size]
    pieces = padded.reshape(n_pieces, size) / loudest
    return {
        "peak": _hex(np.abs(pieces).max(axis=1)),
        "rms": _hex(np.sqrt((pieces**2).mean(axis=1))),
        "s": size / rate,
    }


def _hex(levels: np.ndarray) -> str:
    return np.round(levels * 255).clip(0, 255).astype(np.uint8).tobytes().hex()
