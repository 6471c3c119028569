"""Where and when one is, told by colours: redder to the right, greener downwards, bluer towards the end.

A real model knows positions from billions of frames. One of a million parameters has minutes, and its rotary positions
say only how far tokens are from each other: with these colours it learns in minutes what else takes it hours. They are
in the background, and on a lattice of dots in front of everything, one for each patch of 14 pixels.
"""

from __future__ import annotations

import numpy as np

_DARKEST, _RANGE = 20.0, 215.0  # of a dot's colours, of 255
_PITCH_PX, _DOT_PX = 14, 4  # a patch of Qwen's vision towers; even, so that half the colour resolution keeps a dot
_MIDDLE, _GAIN = 115.0, 55.0  # of the background: its grey in the middle, and what a colour gains from there to an edge


def ground(size: tuple[int, int]) -> np.ndarray:
    """float (H, W, 3): the background at half time, redder to the right and greener downwards."""
    across, down = _places(size)
    return _MIDDLE + _GAIN * np.stack([2 * across - 1, 2 * down - 1, np.zeros_like(across)], axis=2)


def at_time(background: np.ndarray, time: float) -> np.ndarray:
    """The background (H, W, 3) as it is at `time`, from 0 at the clip's beginning to 1 at its end; uint8."""
    bluer = background.astype(np.float64)
    bluer[:, :, 2] += _GAIN * (2 * time - 1)
    return np.clip(np.rint(bluer), 0, 255).astype(np.uint8)


def dot(frame: np.ndarray, time: float) -> None:
    """Put the dots onto a frame, uint8 (H, W, 3), in place."""
    height, width = frame.shape[:2]
    across, down = _places((width, height))
    colours = _DARKEST + _RANGE * np.stack([across, down, np.full_like(across, time)], axis=2)
    rows, columns = np.mgrid[:height, :width]
    here = (rows % _PITCH_PX < _DOT_PX) & (columns % _PITCH_PX < _DOT_PX)
    frame[here] = np.rint(colours[here]).astype(np.uint8)


def _places(size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """(H, W) each: how far each pixel is across and down the frame, 0 to 1."""
    width, height = size
    across, down = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    return across, down
