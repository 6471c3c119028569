"""A frame clock by which a Qwen2.5-Omni processor and its model put every frame into the same chunk of sound.

Both cut a clip into chunks (of 2 s, in the released checkpoints) and lay each chunk's frames before its sound: the
processor when it writes the placeholders, with times in float64, the model when it gives them positions, with times in
float32. A pair of frames whose time should fall on a chunk's border, such as the 18th at 18/7 frames a second, may so
fall on either side of it, and from there on frames would stand at the positions of sound.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from avst.errors import AvstError

NUDGE = 1e-5  # far above the rounding of float32, far below what a frame's time means (0.6 ms in a minute)


def steady_fps(fps: float, n_frames: int, clock: Mapping[str, float], frames_per_grid: int = 2) -> float:
    """`fps`, or where the two computations disagree a value lower by one part in 10^5, at which they agree.

    fps: frames a second, one grid of video tokens for each `frames_per_grid` of them;  clock: position_id_per_seconds
    and seconds_per_chunk (avst.prompt.audio_clock_of), the library's 25 and 2.0 where absent.
    Lower, since a time that belongs on a border then falls behind it, as it does at 2 frames a second.
    """
    rate = int(clock.get("position_id_per_seconds", 25))
    per_chunk = int(rate * clock.get("seconds_per_chunk", 2.0))
    grids = -(-n_frames // frames_per_grid)
    for candidate in (fps, fps * (1 - NUDGE)):
        if chunks_agree(frames_per_grid / candidate, grids, rate, per_chunk):
            return candidate
    raise AvstError(f"at {fps:g} frames a second the model would misplace frames among the sound; choose another clock")


def chunks_agree(seconds_per_grid: float, grids: int, rate: int, per_chunk: int) -> bool:
    """Whether every grid falls into the same chunk by the processor's arithmetic and by the model's."""
    numbers = np.arange(grids)
    written = numbers * seconds_per_grid * rate
    placed = np.trunc(numbers.astype(np.float32) * np.float32(seconds_per_grid) * np.float32(rate))
    borders = np.arange(1, int(written.max(initial=0.0)) // per_chunk + 2) * per_chunk
    return bool((np.searchsorted(borders, written, "right") == np.searchsorted(borders, placed, "right")).all())
