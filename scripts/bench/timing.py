"""Timing by turns: arms that are compared run one after the other, again and again, so that a noisy machine is as noisy
for one as for the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import median


def by_turns(arms: Mapping[str, Callable[[], object]], repeats: int = 5, warmup: int = 1) -> dict[str, list[float]]:
    """Seconds of each run of each arm, in the order they were run. `warmup` runs of each come before and count not."""
    for _ in range(warmup):
        for run in arms.values():
            run()
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(repeats):
        for name, run in arms.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def medians(seconds: Mapping[str, list[float]]) -> dict[str, float]:
    """The median of each arm's runs."""
    return {name: median(runs) for name, runs in seconds.items()}


def ratio(seconds: Mapping[str, list[float]], slow: str, fast: str) -> float:
    """How many times faster `fast` is than `slow`: the median over rounds of the ratio within a round."""
    return median(s / f for s, f in zip(seconds[slow], seconds[fast], strict=True))
