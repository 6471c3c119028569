"""Progress with time left: a bar where there is a terminal, plain lines where there is none."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TextIO, TypeVar

T = TypeVar("T")
Clock = Callable[[], float]
DAY = 24 * 3600


def spelled(seconds: float) -> str:
    """Example: spelled(280) == "4:40"; spelled(3725) == "1:02:05"; spelled(200000) == "2 days 7:33:20"."""
    whole = max(0, round(seconds))
    if whole >= 2 * DAY:
        return f"{whole // DAY} days {spelled(whole % DAY)}"
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


class Pace:
    """Seconds a step and seconds left, over the last `window` steps (the first steps of a run are often slow)."""

    def __init__(self, total: int, done: int = 0, window: int = 20, clock: Clock = time.monotonic) -> None:
        self.total, self.done, self.clock = total, done, clock
        self.marks: deque[tuple[int, float]] = deque([(done, clock())], maxlen=window + 1)

    def advance(self, done: int) -> None:
        """`done` of `total` steps are over now."""
        self.done = done
        self.marks.append((done, self.clock()))

    @property
    def seconds_per_step(self) -> float | None:
        (first, began), (last, ended) = self.marks[0], self.marks[-1]
        return (ended - began) / (last - first) if last > first else None

    @property
    def left_s(self) -> float | None:
        """Seconds to the end; None before the first step."""
        pace = self.seconds_per_step
        return None if pace is None else pace * max(self.total - self.done, 0)

    def words(self) -> str:
        """Example: "3.2 s/step  left 4:40"; empty before the first step."""
        pace, left = self.seconds_per_step, self.left_s
        if pace is None or left is None:
            return ""
        return f"{pace:.2g} s/step  left {spelled(left)}"


def is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except ValueError:  # closed
        return False


def track(
    items: Iterable[T],
    what: str,
    total: int | None = None,
    stream: TextIO | None = None,
    every_s: float = 10.0,
    clock: Clock = time.monotonic,
) -> Iterator[T]:
    """The items, with progress shown on `stream` (standard error). `what`: "videos", "questions", …

    total: needed where `items` has no length;  every_s: least seconds between plain lines; the last is always said.
    """
    stream = sys.stderr if stream is None else stream
    if total is None:
        total = len(items)  # type: ignore[arg-type]  # a length is asked of those who give no total
    if is_terminal(stream):
        from rich.console import Console
        from rich.progress import track as bar

        yield from bar(items, description=what, total=total, console=Console(file=stream))
        return
    pace, shown = Pace(total, clock=clock), clock()
    for done, item in enumerate(items, start=1):
        yield item
        pace.advance(done)
        if clock() - shown >= every_s or done == total:
            shown = clock()
            print(f"{what} {done}/{total}  {pace.words().replace('s/step', 's each')}", file=stream, flush=True)
