"""Frame times against hand-worked numbers, and the choice of the shown frame against a plain search."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avst.media.clock import frame_clock, shown_at


@pytest.mark.parametrize(
    ("end_s", "fps", "max_frames", "n", "used"),
    [
        (10.0, 2.0, None, 20, 2.0),
        (10.001, 2.0, None, 20, 2.0),  # Matroska's rounding is no frame of its own
        (10.2, 2.0, None, 22, 2.0),  # 0 … 10.0 are 21, and one more to be even
        (0.04, 2.0, None, 2, 2.0),  # one frame, held
        (0.04, 2.0, 2, 2, 2.0),
        (10.0, 2.0, 20, 20, 2.0),
        (10.0, 2.0, 8, 8, 0.8),
        (10.0, 2.0, 9, 8, 0.8),  # the even number below
        (10.5, 1.0, 10, 10, 10 / 10.5),
        (3600.0, 2.0, 64, 64, 64 / 3600),
    ],
)
def test_worked_clocks(end_s: float, fps: float, max_frames: int | None, n: int, used: float) -> None:
    clock = frame_clock(end_s, fps, max_frames)
    assert clock.fps == pytest.approx(used, rel=1e-12)
    np.testing.assert_allclose(clock.times_s, [k / used for k in range(n)], rtol=1e-12)


@given(
    st.floats(0.01, 5000),
    st.floats(0.05, 60),
    st.none() | st.integers(2, 999),
)
def test_clock_properties(end_s: float, fps: float, max_frames: int | None) -> None:
    clock = frame_clock(end_s, fps, max_frames)
    n = len(clock.times_s)
    assert n % 2 == 0
    assert n >= 2
    assert max_frames is None or n <= max_frames
    assert clock.fps <= fps
    assert clock.times_s[0] == 0
    # The clip is covered: the next step would lie at or past its end, and at most one step is there to make n even.
    assert n / clock.fps >= end_s - 0.0021
    assert (n - 2) / clock.fps < end_s


@given(
    st.lists(st.integers(0, 400), min_size=1, max_size=30, unique=True),
    st.lists(st.integers(0, 500), max_size=30),
)
def test_shown_is_the_last_that_has_begun(starts: list[int], asked: list[int]) -> None:
    starts, asked = sorted(starts), sorted(asked)
    pictures = [(start / 40, start) for start in starts]
    found = [picture for _, picture in shown_at(pictures, [t / 40 for t in asked])]
    assert found == [max([s for s in starts if s <= t], default=starts[0]) for t in asked]


def test_shown_reads_no_further_than_needed() -> None:
    read = []

    def pictures():
        for i in range(100):
            read.append(i)
            yield float(i), i

    assert [p for _, p in shown_at(pictures(), [0.5, 2.0])] == [0, 2]
    assert max(read) == 3


def test_no_picture_gives_nothing() -> None:
    assert list(shown_at([], [0.0, 1.0])) == []
