"""The table of an ablation, as text, CSV and JSON: mean ± spread over seeds, and below it the difference to the full
recipe with its 95% interval."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from avst.ablation.effects import Effect
from avst.metrics import FIGURES
from avst.tables import TABLES
from avst.types import Task

LABEL = 30  # columns for a row's name in the text form
FIELDS = (
    *("split", "table", "task", "row", "kind", "figure", "seeds", "mean", "sd"),
    *("difference", "low", "high", "n", "per_seed"),
)


@dataclass(frozen=True, slots=True)
class Row:
    """kind: full, variant, start or trivial;  state: of its cells where not all are finished, such as "2 of 3 seeds";
    effects: empty where there is nothing yet."""

    name: str
    kind: str
    effects: Mapping[tuple[Task, str], Effect]
    state: str = ""


@dataclass(frozen=True, slots=True)
class AblationTable:
    """n_questions: per task;  notes: footnotes."""

    split: str
    rows: tuple[Row, ...]
    n_questions: Mapping[Task, int]
    notes: tuple[str, ...] = ()


def as_text(table: AblationTable) -> str:
    """One block a task: a row's name and figures, the difference, its interval."""
    blocks = []
    for number, task, title in TABLES:
        if count := table.n_questions.get(task):
            blocks.append(_block(table, task, f"{number.capitalize()}: {title} ({table.split}, {count} questions)"))
    footnotes = "\n".join(f"* {note}" for note in table.notes)
    return "\n\n".join([*blocks, *([footnotes] if footnotes else [])]) + "\n"


def _block(table: AblationTable, task: Task, title: str) -> str:
    figures = FIGURES[task]
    grid: list[list[str]] = [["", *figures], []]  # an empty line of the grid becomes a rule
    above = ""
    for row in table.rows:
        own = [row.effects.get((task, figure)) for figure in figures]
        if row.kind == "trivial" and not any(own):
            continue
        if row.kind != above and above and row.kind in ("start", "trivial"):
            grid.append([])
        above = row.kind
        grid += _lines(row, own)
    widths = [max(len(line[i]) for line in grid if line) + (2 if i else 0) for i in range(len(figures) + 1)]
    shown = [
        (line[0].ljust(widths[0]) + "".join(w.rjust(n) for w, n in zip(line[1:], widths[1:], strict=True))).rstrip()
        if line
        else "─" * sum(widths)
        for line in grid
    ]
    return "\n".join([title, *shown])


def _lines(row: Row, own: Sequence[Effect | None]) -> Iterator[list[str]]:
    name = [row.name[i : i + LABEL] for i in range(0, len(row.name), LABEL)]
    yield [name[0], *(_value(effect) for effect in own)]
    rest = [*(f"  {part}" for part in name[1:]), *([f"  ({row.state})"] if row.state else [])]
    compared = any(effect is not None and effect.difference is not None for effect in own)
    numbers = [[_difference(effect) for effect in own], [_interval(effect) for effect in own]] if compared else []
    words = ["  to the full recipe", "  95%"]
    for i in range(max(len(rest), len(numbers))):
        # the name's own rest has the first claim on the column, the explanation of a line comes where there is room
        label = rest[i] if i < len(rest) else words[i]
        yield [label, *(numbers[i] if i < len(numbers) else [""] * len(own))]


def _value(effect: Effect | None) -> str:
    if effect is None:
        return "–"
    return f"{effect.mean:.2f}" + (f" ±{effect.sd:.2f}" if effect.sd is not None else "")


def _difference(effect: Effect | None) -> str:
    return "" if effect is None or effect.difference is None else _signed(effect.difference, 2)


def _interval(effect: Effect | None) -> str:
    if effect is None or effect.low is None or effect.high is None:
        return ""
    low, high = (_signed(bound, 0 if abs(bound) >= 99.95 else 1) for bound in (effect.low, effect.high))
    return f"[{low}, {high}]"


def _signed(value: float, digits: int) -> str:
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0 else text


def as_records(table: AblationTable) -> list[dict[str, Any]]:
    """One record a figure and row (FIELDS); per_seed: {seed: value}, for a row without seeds {}."""
    records = []
    for number, task, _ in TABLES:
        for row in table.rows:
            for figure in FIGURES[task]:
                if (effect := row.effects.get((task, figure))) is not None:
                    per_seed = {str(seed): value for seed, value in effect.per_seed.items() if seed >= 0}
                    where = {"split": table.split, "table": number, "task": task, "row": row.name, "kind": row.kind}
                    values = {"seeds": len(per_seed), "mean": effect.mean, "sd": effect.sd}
                    difference = {"difference": effect.difference, "low": effect.low, "high": effect.high}
                    records.append(
                        where | {"figure": figure} | values | difference | {"n": effect.n, "per_seed": per_seed}
                    )
    return records


def as_json(table: AblationTable) -> dict[str, Any]:
    states = {row.name: row.state for row in table.rows if row.state}
    return {"records": as_records(table), "unfinished": states, "notes": list(table.notes)}


def as_csv(table: AblationTable) -> str:
    """The records, one a line; the values of the seeds as "0=41.2 1=40.8"."""
    out = io.StringIO()
    writer = csv.DictWriter(out, FIELDS, lineterminator="\n")
    writer.writeheader()
    for record in as_records(table):
        per_seed = " ".join(f"{seed}={value:.4f}" for seed, value in record["per_seed"].items())
        writer.writerow(record | {"per_seed": per_seed})
    return out.getvalue()
