"""What a run's folder holds by now, read again and again while somebody else writes it.

The folder may not be there yet, a line may be half-written, a run may be begun anew in the same folder: none of these
is an error, and what cannot be read now is read later.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from avst.run_folder import RunFolder, counted, read_completions

WINDOW = 20  # log lines over which the pace is measured, as in avst.progress


@dataclass(slots=True)
class Seen:
    """rows: the log lines that count, in order;  groups: the answers of the newest step with any, question by question;
    waiting: the folder is not there yet;  age_s: seconds since the last log line, None before the first."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    groups: list[list[dict[str, Any]]] = field(default_factory=list)
    command: str = ""
    name: str = ""
    waiting: bool = True
    age_s: float | None = None

    @property
    def step(self) -> int:
        return int(self.rows[-1].get("step") or 0) if self.rows else 0

    @property
    def max_steps(self) -> int | None:
        """Optimizer steps of the whole run; None where the log does not say it (runs of earlier versions)."""
        return next((int(row["max_steps"]) for row in reversed(self.rows) if row.get("max_steps")), None)

    @property
    def finished(self) -> bool:
        return bool(self.rows) and "train_runtime" in self.rows[-1]

    @property
    def seconds_per_step(self) -> float | None:
        """Over the last log lines of the newest start."""
        if not self.rows:
            return None
        start = self.rows[-1].get("start")
        marks = [
            (row["step"], row["elapsed_s"])
            for row in self.rows
            if row.get("start") == start and row.get("step") is not None and row.get("elapsed_s") is not None
        ][-WINDOW:]
        if len(marks) < 2 or marks[-1][0] <= marks[0][0]:
            return None
        return float((marks[-1][1] - marks[0][1]) / (marks[-1][0] - marks[0][0]))

    @property
    def left_s(self) -> float | None:
        pace, total = self.seconds_per_step, self.max_steps
        return None if pace is None or total is None or self.finished else pace * max(total - self.step, 0)


class Follower:
    """Reads a run's folder; `look` returns what is there now. Only what is new is read."""

    def __init__(self, path: str | Path, clock: Callable[[], float] = time.time) -> None:
        self.path, self.clock = Path(path), clock
        self._rows: list[dict[str, Any]] = []
        self._offset, self._inode = 0, -1
        self._completions: tuple[Path, int] | None = None
        self._groups: list[list[dict[str, Any]]] = []

    def look(self) -> Seen:
        self._read_metrics()
        self._read_completions()
        seen = Seen(counted(self._rows), self._groups)
        record = self._record()
        seen.command, seen.name = str(record.get("command", "")), str(record.get("name", ""))
        seen.waiting = not record and not self._rows
        if seen.rows and isinstance(stamp := seen.rows[-1].get("time_s"), int | float):
            seen.age_s = max(self.clock() - stamp, 0.0)
        return seen

    def _read_metrics(self) -> None:
        file = self.path / "metrics.jsonl"
        try:
            found = file.stat()
            if found.st_ino != self._inode or found.st_size < self._offset:  # another run began here
                self._rows, self._offset, self._inode = [], 0, found.st_ino
            with file.open("rb") as stream:
                stream.seek(self._offset)
                data = stream.read()
        except OSError:
            if not file.exists():
                self._rows, self._offset, self._inode = [], 0, -1
            return
        whole = data[: data.rfind(b"\n") + 1]  # the rest is being written
        self._offset += len(whole)
        for line in whole.split(b"\n"):
            try:
                row = json.loads(line.decode("utf-8", "replace")) if line.strip() else None
            except (ValueError, RecursionError):  # a crash cut it
                continue
            if isinstance(row, dict):
                self._rows.append(row)

    def _read_completions(self) -> None:
        files = RunFolder(self.path).completion_files()
        if not files:
            self._completions, self._groups = None, []
            return
        newest = max(files, key=lambda file: _changed(file))
        try:
            mark = (newest, newest.stat().st_mtime_ns)
            if mark == self._completions:
                return
            rows = read_completions(newest)
        except (OSError, ValueError):  # taken away or not whole: the next look finds it
            return
        groups: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            groups.setdefault(str(row.get("question_id")), []).append(row)
        self._completions, self._groups = mark, list(groups.values())

    def _record(self) -> dict[str, Any]:
        try:
            record = json.loads((self.path / "run.json").read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        return record if isinstance(record, dict) else {}


def _changed(file: Path) -> tuple[int, str]:
    try:
        return file.stat().st_mtime_ns, file.name
    except OSError:
        return 0, file.name
