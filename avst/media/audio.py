"""Sound on the clip's clock: pieces placed by their time, mixed, and resampled by soxr as they come."""

from __future__ import annotations

import numpy as np
import soxr

from avst.media.clock import END_SLACK_S
from avst.media.settings import Channels, MediaError

# Containers round times (Matroska to 1 ms); pieces that lie closer than this to where they should be are joined as
# they are.
JOIN_S = 0.010
# Unreadable sound is silence in the clip up to this many seconds in all; with more the file is refused.
LOST_MAX_S = 0.25
# The longest block of the usual encoders (AAC at 16 kHz: 64 ms; Opus: 60 ms).
PADDING_S = 0.064


class Timeline:
    """Takes pieces of sound in order and gives the whole from t = 0, at another rate.

    Silence stands before a late start and in gaps; what overlaps with sound already placed, or lies before t = 0, is
    cut.
    """

    def __init__(self, path: str, source_rate: int, rate: int, n_channels: int, channels: Channels) -> None:
        self.path, self.source_rate, self.mono = path, source_rate, channels == "mono"
        self.placed = 0  # samples at the source rate
        self.lost_s = 0.0
        self.width = 1 if self.mono else n_channels
        self.pieces: list[np.ndarray] = []  # each (n, width) at the new rate
        self.rate = rate
        self.resampler = (
            soxr.ResampleStream(source_rate, rate, self.width, dtype="float32", quality="HQ")
            if rate != source_rate
            else None
        )

    def add(self, samples: np.ndarray, at_s: float | None) -> None:
        """Place float32 (channels, n) that begins at second `at_s`; None: right behind the last piece."""
        if at_s is not None:
            late = round(at_s * self.source_rate) - self.placed
            if late > JOIN_S * self.source_rate:
                self._silence(late)
            elif late < -JOIN_S * self.source_rate:
                samples = samples[:, -late:]
        if samples.shape[1] == 0:
            return
        mixed = samples.mean(axis=0, keepdims=True) if self.mono else samples
        self._push(np.ascontiguousarray(mixed.T, dtype=np.float32))

    def lose(self, seconds: float) -> None:
        """Note unreadable sound; the next piece's time leaves the gap that it was. MediaError when it is too much."""
        self.lost_s += seconds
        if self.lost_s > LOST_MAX_S:
            at = self.placed / self.source_rate
            raise MediaError(f"{self.path}: the sound is unreadable from about {at:.2f} s on")

    def finish(self, end_s: float) -> np.ndarray:
        """All that was placed: float32 (N,) for mono, else (channels, N).

        `end_s`: where the track ends by its packets; the last block's padding after it is cut.
        """
        if self.resampler is not None:
            self.pieces.append(self.resampler.resample_chunk(np.zeros((0, self.width), np.float32), last=True))
        whole = np.concatenate(self.pieces) if self.pieces else np.zeros((0, self.width), np.float32)
        end = round(end_s * self.rate)
        if END_SLACK_S * self.rate < len(whole) - end <= PADDING_S * self.rate:
            whole = whole[:end]
        return np.ascontiguousarray(whole[:, 0] if self.mono else whole.T)

    def _push(self, samples: np.ndarray) -> None:
        self.placed += len(samples)
        self.pieces.append(samples if self.resampler is None else self.resampler.resample_chunk(samples))

    def _silence(self, n: int) -> None:
        """Silence in pieces of at most a minute, so that a wild time stamp cannot ask for all the memory at once."""
        while n > 0:
            step = min(n, 60 * self.source_rate)
            self._push(np.zeros((step, self.width), np.float32))
            n -= step
