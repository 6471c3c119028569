"""Stretches of a file that its reader passed over: packets are missing, and nobody says so.

MP4 lists every packet, so none goes missing without an error. Matroska, FLV and MPEG-TS are read from packet to
packet: behind damage FFmpeg goes on at the next place that looks right, and the last picture before it would be held
for the truth. In the first two, bytes between packets that are none of the container's own tell; something is missing
only where the packets' times leave a gap there too, for a file may carry more with its frames (alpha, HDR), and a rate
may be variable. MPEG-TS cuts packets to pieces, and FFmpeg calls few of the damaged ones corrupt: there a gap in a rate
that is steady otherwise tells.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median_low
from typing import Any

from avst.media.audio import LOST_MAX_S
from avst.media.settings import MediaError

# Formats whose packets lie one behind the other, with fewer bytes of the container's than this between two of them
# (measured: Matroska 24, FLV 20).
CONTIGUOUS = {"matroska", "flv"}
BETWEEN_BYTES = 64
# Of a steady rate at least this share of the steps is the usual one.
STEADY = 0.9
# A gap is more than this many times the usual step, at most so many frames away from where the reader lost its way.
GAP_STEPS = 1.5
NEAR = 16


@dataclass(slots=True)
class Tears:
    """Where a reader lost its way, seen from the packets as they come.

    formats: the container's names;  found: stream index -> (pts before, pts after) of each place.
    """

    formats: set[str]
    found: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    _last: dict[int, int] = field(default_factory=dict)
    _torn: set[int] = field(default_factory=set)
    _end: int | None = None

    def feed(self, packet: Any) -> None:
        """The next packet of the file, of whatever stream."""
        if self.formats & CONTIGUOUS and packet.pos is not None:
            if self._end is not None and packet.pos - self._end > BETWEEN_BYTES:
                self._torn = set(self._last)
            self._end = max(self._end or 0, packet.pos + packet.size)
        if packet.is_corrupt:
            self._torn = set(self._last)
        elif packet.pts is not None:
            index = packet.stream_index
            if index in self._torn:
                self._torn.discard(index)
                self.found.setdefault(index, []).append((self._last[index], packet.pts))
            self._last[index] = packet.pts

    def gaps(self, index: int, pts: Sequence[int]) -> list[tuple[int, int]]:
        """(end of the last whole packet, start of the next one), in ticks, where packets of a stream are missing.

        pts: sorted times of the stream's packets.
        """
        if len(pts) < 3:
            return []
        steps = [b - a for a, b in pairwise(pts)]
        step = median_low(steps)
        stretches = []
        if "mpegts" not in self.formats:
            for before, after in self.found.get(index, ()):
                first = bisect_left(pts, min(before, after) - NEAR * step)
                behind = bisect_right(pts, max(before, after) + NEAR * step)
                stretches.append(pts[max(first - 1, 0) : behind + 1])
        elif sum(abs(one - step) <= 0.1 * step for one in steps) >= STEADY * len(steps):
            stretches.append(pts)
        missing = {(a + step, b) for near in stretches for a, b in pairwise(near) if b - a > GAP_STEPS * step}
        return sorted(missing)


def refuse_lost_frames(
    path: str, lost_s: Sequence[tuple[float, float]], times_s: Sequence[float], slack_s: float
) -> None:
    """Raise MediaError where one of the asked times lies in a stretch (from, to) whose frames are missing, or are built
    on missing ones."""
    for start, end in lost_s:
        i = bisect_left(times_s, start + slack_s)
        if i < len(times_s) and times_s[i] < end - slack_s:
            raise MediaError(
                f"{path}: the frame at {times_s[i]:.3f} s is unreadable (the file is damaged: "
                f"frames are missing from {start:.3f} s on)"
            )


def refuse_lost_sound(path: str, silent_s: Sequence[tuple[float, float]]) -> None:
    """Raise MediaError where more of the sound is missing than may be silence (avst.media.audio)."""
    if sum(end - start for start, end in silent_s) > LOST_MAX_S:
        raise MediaError(f"{path}: the sound is unreadable from about {silent_s[0][0]:.2f} s on")
