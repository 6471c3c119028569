"""A curve as characters: braille dots (2 x 4 a character) or one line of blocks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

BLOCKS = "▁▂▃▄▅▆▇█"
ASCII_BLOCKS = "_.-=+*#@"
# the bit of each dot of a braille character: DOTS[row][column], U+2800 is the empty one
DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
Point = tuple[float, float]


def in_columns(points: Sequence[Point], width: int) -> list[float | None]:
    """`width` means over equal parts of the x axis, None where a part has no point. points: (x, y), x rising."""
    if not points:
        return [None] * width
    first, last = points[0][0], points[-1][0]
    sums, counts = [0.0] * width, [0] * width
    for x, y in points:
        column = min(int((x - first) / (last - first) * width), width - 1) if last > first else 0
        sums[column] += y
        counts[column] += 1
    return [total / count if count else None for total, count in zip(sums, counts, strict=True)]


def joined(values: Sequence[float | None]) -> list[float | None]:
    """Gaps between two known values are drawn straight; before the first and behind the last nothing is known."""
    known = [i for i, value in enumerate(values) if value is not None]
    found = list(values)
    for left, right in pairwise(known):
        low, high = values[left], values[right]
        assert low is not None
        assert high is not None
        for i in range(left + 1, right):
            found[i] = low + (high - low) * (i - left) / (right - left)
    return found


def sparkline(points: Sequence[Point], width: int, ascii_only: bool = False) -> str:
    """Example: sparkline([(0, 0.0), (1, 1.0)], 2) == "▁█"."""
    blocks = ASCII_BLOCKS if ascii_only else BLOCKS
    values = joined(in_columns(points, width))
    low, high = bounds(values)
    return "".join(
        " " if value is None else blocks[min(int((value - low) / (high - low) * len(blocks)), len(blocks) - 1)]
        for value in values
    )


def braille(points: Sequence[Point], width: int, height: int) -> list[str]:
    """`height` lines of `width` characters; the lowest value at the bottom, neighbouring dots joined upwards."""
    values = joined(in_columns(points, 2 * width))
    low, high = bounds(values)
    rows = 4 * height
    cells = [[0] * width for _ in range(height)]
    before: int | None = None
    for x, value in enumerate(values):
        if value is None:
            before = None
            continue
        y = rows - 1 - min(int((value - low) / (high - low) * rows), rows - 1)
        start = y if before is None else before + (y > before) - (y < before)
        for dot in range(min(start, y), max(start, y) + 1):
            cells[dot // 4][x // 2] |= DOTS[dot % 4][x % 2]
        before = y
    return ["".join(chr(0x2800 + bits) for bits in line) for line in cells]


def bounds(values: Sequence[float | None]) -> tuple[float, float]:
    """Lowest and highest, a little apart where all are the same (the curve then runs in the middle)."""
    known = [value for value in values if value is not None]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    if high - low <= 1e-12 * max(abs(low), abs(high), 1e-300):
        slack = max(abs(low), 1.0) / 2
        return low - slack, high + slack
    return low, high


def points_of(rows: Sequence[dict[str, object]], key: str) -> list[Point]:
    """(step, value) of the log lines that have the figure as a finite number, by rising step."""
    found = [
        (float(step), float(value))
        for row in rows
        if isinstance(step := row.get("step"), int)
        and isinstance(value := row.get(key), int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
    ]
    return sorted(found, key=lambda point: point[0])
