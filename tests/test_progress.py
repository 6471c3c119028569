"""Time left, and what is said where there is no terminal; the clocks are the tests' own."""

from __future__ import annotations

import io

import pytest

from avst.progress import Pace, spelled, track


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((0, "0:00"), (59.4, "0:59"), (59.6, "1:00"), (280, "4:40"), (3725, "1:02:05"), (-3, "0:00")),
        *((172_799, "47:59:59"), (172_800, "2 days 0:00"), (200_000, "2 days 7:33:20")),
    ],
)
def test_spelled(seconds: float, text: str) -> None:
    assert spelled(seconds) == text


def test_pace_and_time_left() -> None:
    clock = Clock()
    pace = Pace(total=100, clock=clock)
    assert (pace.seconds_per_step, pace.left_s, pace.words()) == (None, None, "")
    clock.now += 5
    pace.advance(1)
    clock.now += 3
    pace.advance(2)
    assert pace.seconds_per_step == 4.0
    assert pace.left_s == 4.0 * 98
    assert pace.words() == "4 s/step  left 6:32"


def test_pace_forgets_slow_first_steps_and_what_was_done_before_a_resume() -> None:
    clock = Clock()
    pace = Pace(total=60, done=50, window=3, clock=clock)
    for step, seconds in enumerate((60, 1, 2, 3), start=51):
        clock.now += seconds
        pace.advance(step)
    assert pace.seconds_per_step == 2.0  # the last three
    assert pace.left_s == 2.0 * 6


def test_plain_lines_come_now_and_then_and_at_the_end() -> None:
    clock, stream = Clock(), io.StringIO()
    seen = []
    for item in track(range(5), "videos", stream=stream, every_s=10, clock=clock):
        clock.now += 4
        seen.append(item)
    assert seen == [0, 1, 2, 3, 4]
    assert stream.getvalue().splitlines() == [
        "videos 3/5  4 s each  left 0:08",
        "videos 5/5  4 s each  left 0:00",
    ]


def test_a_total_may_be_told() -> None:
    stream = io.StringIO()
    assert list(track(iter("ab"), "letters", total=2, stream=stream)) == ["a", "b"]
    assert stream.getvalue().startswith("letters 2/2")


def test_a_terminal_gets_a_bar() -> None:
    stream = Terminal()
    assert list(track([1, 2, 3], "videos", stream=stream)) == [1, 2, 3]
    assert "videos" in stream.getvalue()
    assert "100%" in stream.getvalue()
