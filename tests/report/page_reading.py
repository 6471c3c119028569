"""Looking at the page from outside: what is drawn, and what should be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.report.browser import Browser
from tests.report.report_world import read

# The boxes drawn in the picture of {0} (a, b) for {1} (gold, a, b), as [x, y, width, height] in source pixels.
BOXES = (
    "[...document.querySelectorAll('.stage.{0} .box.{1} .line')]"
    ".map(r => ['x', 'y', 'width', 'height'].map(k => +r.getAttribute(k)))"
)
SELECTED = "+document.querySelector('.group.a .head[aria-pressed=true]').dataset.completion"


def number_of(report: Path, task: str, objects: int = 1) -> int:
    """The first training question of a task with so many gold objects or more that are seen."""
    rows = read(report / "data" / "index.js")["questions"]
    for number in range(len(rows)):
        record = read(report / "data" / "q" / f"{number}.js")
        seen = [o for o in record["gold"] if any(any(e[1:]) for e in o["track"])]
        trained = any(g["step"] is not None for g in record["groups"])
        if record["task"] == task and trained and (task == "temporal" or len(seen) >= objects):
            return number
    raise LookupError(task)


def look(browser: Browser, report: Path, number: int, more: str = "") -> dict[str, Any]:
    """Open the page at a question; its record."""
    browser.open(f"{(report / 'index.html').as_uri()}#questions?q={number}{more}")
    browser.until("document.querySelectorAll('.completion').length")
    return read(report / "data" / "q" / f"{number}.js")


def ready_video(browser: Browser) -> None:
    browser.until("document.querySelector('video').readyState >= 2 && !document.querySelector('video').seeking")


def last_group(record: dict[str, Any]) -> dict[str, Any]:
    return [g for g in record["groups"] if g["set"] == 0][-1]


def held(track: list[list[float]], t: float) -> list[list[float]]:
    """Boxes at time t by the rule of the reward, [x, y, width, height]: the nearest time's, at most 0.5 s off."""
    seen = [e for e in track if any(e[1:])]
    near = min((abs(e[0] - t) for e in seen), default=9.0)
    chosen = [e for e in seen if abs(abs(e[0] - t) - near) < 1e-9]
    first = min((e[0] for e in chosen), default=0.0)
    return [[e[1], e[2], e[3] - e[1], e[4] - e[2]] for e in chosen if e[0] == first] if near <= 0.5 else []


def same(found: list[list[float]], wanted: list[list[float]]) -> bool:
    return len(found) == len(wanted) and all(
        a == pytest.approx(b, abs=1e-3) for a, b in zip(sorted(found), sorted(wanted), strict=True)
    )
