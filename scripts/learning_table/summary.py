"""The learning table itself: a row a way of training, a column a figure, mean ± spread over seeds, skill below."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from avst.tables import TRIVIAL_OF
from scripts.learning_table.plan import TITLES

COLUMNS = (
    *(("temporal", "m_tIoU"), ("temporal", "R1@0.5"), ("temporal", "R1@0.7")),
    *(("spatial", "object_accuracy"), ("spatial", "m_vIoU"), ("spatial", "AP@0.3"), ("spatial", "AP@0.5")),
    *(("st", "m_tIoU"), ("st", "R1@0.7"), ("st", "m_vIoU"), ("st", "AP@0.3"), ("st", "AP@0.5")),
)
FIRST = ("untrained", "SFT continued", "full")  # then the ablations, the control, and the trivial answers
Table = Mapping[tuple[str, str, str], Mapping[str, Any]]


def by_cell(records: Sequence[Mapping[str, Any]]) -> Table:
    """(row, task, figure) -> record of avst.ablation.table.as_records."""
    return {(r["row"], r["task"], r["figure"]): r for r in records}


def skill(table: Table, row: str, task: str, figure: str) -> float | None:
    """100·(x − x0) / (100 − x0): the share of what the trivial answer leaves to be won."""
    own, trivial = table.get((row, task, figure)), table.get((TRIVIAL_OF[figure], task, figure))
    if own is None or trivial is None:
        return None
    return 100 * (own["mean"] - trivial["mean"]) / (100 - trivial["mean"])


def rows_of(table: Table) -> list[str]:
    names = list(dict.fromkeys(row for row, _, _ in table))
    return sorted(names, key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST))


def as_lines(table: Table, minutes: Mapping[str, float]) -> list[list[str]]:
    """Cells as text. minutes: row -> of training, mean over seeds."""
    lines = [["", "minutes", *(f"{task} {figure}" for task, figure in COLUMNS)]]
    trivial = set(TRIVIAL_OF.values())
    for row in rows_of(table):
        found = [table.get((row, task, figure)) for task, figure in COLUMNS]
        if row in trivial:
            found = [
                cell if TRIVIAL_OF[figure] == row else None for cell, (_, figure) in zip(found, COLUMNS, strict=True)
            ]
        time = f"{minutes[row]:.1f}" if row in minutes else ""
        lines.append([TITLES.get(row, row), time, *(_shown(cell) for cell in found)])
        if row not in trivial:
            shares = [skill(table, row, task, figure) for task, figure in COLUMNS]
            lines.append(["  skill", "", *("" if share is None else str(round(share)) for share in shares)])
    return lines


def _shown(cell: Mapping[str, Any] | None) -> str:
    if cell is None:
        return ""
    return f"{cell['mean']:.1f}" + (f" ±{cell['sd']:.1f}" if cell["sd"] is not None else "")


def as_markdown(lines: Sequence[Sequence[str]]) -> str:
    head, *rest = lines
    marks = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, marks, *rest)) + "\n"


def as_csv(lines: Sequence[Sequence[str]]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(lines)
    return out.getvalue()
