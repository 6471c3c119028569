"""Tables 2 and 3 of the paper: a model's figures with n and intervals, its skill, and the trivial answers beside them.

Skill is the share of what a trivial answer leaves to be won: 100·(x − x0) / (100 − x0), percent; below 0 the model is
worse than an answer given with closed eyes. Each figure has one trivial answer: whole clip (times), whole frame with
the gold names (boxes), most frequent name (names). A skill's interval is a paired bootstrap: the same videos for both.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from avst import trivial
from avst.metrics import (
    BOX_FIGURES,
    FIGURES,
    OBJECT_FIGURES,
    TIME_FIGURES,
    QuestionResult,
    bootstrap_means,
    figure_values,
    interval95,
    measure,
    summarise,
)
from avst.types import Answer, Question, Task
from avst.word_vectors import WordVectors

TABLES: tuple[tuple[str, Task, str], ...] = (
    ("table 2", "spatial", "Audio-visual spatial reasoning"),
    ("table 2", "st", "Audio-visual spatio-temporal reasoning"),
    ("table 3", "temporal", "Audio-visual temporal reasoning"),
)
LABEL = 20  # columns for a row's name in the text form
TRIVIAL_OF: dict[str, str] = (
    dict.fromkeys(TIME_FIGURES, trivial.WHOLE_CLIP)
    | dict.fromkeys(BOX_FIGURES, trivial.WHOLE_FRAME)
    | dict.fromkeys(OBJECT_FIGURES, trivial.FREQUENT_NAME)
)


@dataclass(frozen=True, slots=True)
class Cell:
    """One figure: percent (None: nothing to score), its 95% interval, and the number of questions in it."""

    value: float | None
    ci95: tuple[float, float] | None
    n: int


@dataclass(frozen=True, slots=True)
class Row:
    """A row of all three blocks; a figure that the row does not have is absent. kind: model, skill or trivial."""

    name: str
    kind: str
    cells: Mapping[tuple[Task, str], Cell]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything that the tables show. n_questions: per task;  notes: footnotes."""

    rows: tuple[Row, ...]
    n_questions: Mapping[Task, int]
    notes: tuple[str, ...] = field(default=())


def trivial_results(
    questions: Sequence[Question],
    words: WordVectors,
    frames_px: Mapping[str, tuple[float, float]],
    frequent_name: str | None = None,
) -> dict[str, list[QuestionResult]]:
    """What the trivial answers get. frames_px: video -> (width, height); frequent_name: None: that of `questions`."""
    name = trivial.most_frequent_name(questions) if frequent_name is None else frequent_name
    naming = trivial.name_alone(name) if name else Answer()
    timed = [q for q in questions if q.task != "spatial"]
    boxed = [q for q in questions if q.task != "temporal"]
    return {
        trivial.WHOLE_CLIP: [measure(q, trivial.whole_clip(q), words) for q in timed],
        trivial.WHOLE_FRAME: [measure(q, trivial.whole_frame(q, trivial.frame_of(q, frames_px)), words) for q in boxed],
        trivial.FREQUENT_NAME: [measure(q, naming, words) for q in questions if q.task == "spatial"],
    }


def compare(
    models: Mapping[str, Sequence[QuestionResult]],
    trivials: Mapping[str, Sequence[QuestionResult]],
    notes: Iterable[str] = (),
) -> Comparison:
    """Rows: every model with its skill below it, then the trivial answers. All must hold the same questions."""
    rows: list[Row] = []
    for name, results in models.items():
        rows.append(Row(name, "model", _cells(results, None)))
        rows.append(Row(f"  skill of {name}", "skill", _skill_cells(results, trivials)))
    rows += [Row(name, "trivial", _cells(results, name)) for name, results in trivials.items()]
    first = next(iter(models.values()), ())
    n_questions: dict[Task, int] = {task: sum(r.task == task for r in first) for _, task, _ in TABLES}
    return Comparison(tuple(rows), n_questions, tuple(notes))


def _cells(results: Sequence[QuestionResult], only_trivial: str | None) -> dict[tuple[Task, str], Cell]:
    """A trivial answer is shown only where it is the measure of a figure; elsewhere its 0 or 100 says nothing."""
    cells: dict[tuple[Task, str], Cell] = {}
    summaries = summarise(results)
    for _, task, _ in TABLES:
        summary = summaries[task]
        for figure in FIGURES[task]:
            if only_trivial in (None, TRIVIAL_OF[figure]) and summary["n"]:
                ci95 = summary["ci95"][figure]
                cells[task, figure] = Cell(summary[figure], tuple(ci95) if ci95 else None, summary["n_of"][figure])
    return cells


def _skill_cells(
    results: Sequence[QuestionResult], trivials: Mapping[str, Sequence[QuestionResult]]
) -> dict[tuple[Task, str], Cell]:
    cells: dict[tuple[Task, str], Cell] = {}
    for _, task, _ in TABLES:
        own = sorted((r for r in results if r.task == task), key=lambda r: r.id)
        values = figure_values(own, task)
        for column, figure in enumerate(FIGURES[task]):
            base = sorted((r for r in trivials.get(TRIVIAL_OF[figure], ()) if r.task == task), key=lambda r: r.id)
            if own and [r.id for r in base] == [r.id for r in own]:
                both = np.stack([values[:, column], figure_values(base, task)[:, column]], axis=1)
                cells[task, figure] = _skill_cell(both, [r.video for r in own])
    return cells


def _skill_cell(both: np.ndarray, videos: Sequence[str]) -> Cell:
    """both (Q, 2): the model's and the trivial answer's values of one figure, left out (NaN) on the same questions."""
    known = both[~np.isnan(both).any(axis=1)]
    if not known.size:
        return Cell(None, None, 0)
    value = skill(known.mean(axis=0))
    ci95 = interval95(skill(bootstrap_means(both, videos)))
    number = float(value)
    return Cell(None if np.isnan(number) else number, (ci95[0], ci95[1]) if ci95 else None, len(known))


def skill(both: np.ndarray) -> np.ndarray:
    """(…, 2) percent of model and trivial answer -> (…) percent; NaN where the trivial answer leaves nothing to win."""
    model, base = both[..., 0], both[..., 1]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(base < 100.0, 100.0 * (model - base) / (100.0 - base), np.nan)


def as_text(comparison: Comparison) -> str:
    """One block a task, at most 120 columns: each value above its 95% interval, the number of questions last."""
    blocks = []
    for table, task, title in TABLES:
        n = comparison.n_questions[task]
        if n:
            blocks.append(
                _block(comparison, task, f"{table.capitalize()}: {title} ({n} question{'s' if n > 1 else ''})")
            )
    footnotes = [f"* {note}" for note in comparison.notes]
    return "\n\n".join([*blocks, "\n".join(footnotes)] if footnotes else blocks) + "\n"


def _block(comparison: Comparison, task: Task, title: str) -> str:
    figures = FIGURES[task]
    rows = [row for row in comparison.rows if any((task, figure) in row.cells for figure in figures)]
    grid: list[list[str]] = [["", *figures], []]  # an empty line of the grid becomes a rule
    for above, row in zip([None, *rows], rows, strict=False):
        if row.kind == "trivial" and above is not None and above.kind != "trivial":
            grid.append([])
        cells = [row.cells.get((task, figure)) for figure in figures]
        name, rest = _label(row)
        whole = row.kind == "skill"
        below = [rest, *(_shown_interval(cell, whole) for cell in cells)]
        grid += [[name, *map(_shown, cells)], *([below] if any(below) else [])]
    counts = [next((row.cells[task, f].n for row in rows if (task, f) in row.cells), 0) for f in figures]
    grid += [[], ["questions in figure", *map(str, counts)]]
    columns = list(zip(*filter(None, grid), strict=True))
    widths = [max(map(len, columns[0])), *(max(map(len, column)) + 2 for column in columns[1:])]
    lines = [_line(words, widths) if words else "─" * sum(widths) for words in grid]
    return "\n".join([title, *lines])


def _line(words: Sequence[str], widths: Sequence[int]) -> str:
    numbers = "".join(text.rjust(width) for text, width in zip(words[1:], widths[1:], strict=True))
    return (words[0].ljust(widths[0]) + numbers).rstrip()


def _label(row: Row) -> tuple[str, str]:
    """A row's name on its two lines, so that a long one does not push the numbers out of sight. A skill stands below
    the model whose skill it is."""
    if row.kind == "skill":
        return "  skill", ""
    if len(row.name) <= LABEL:
        return row.name, ""
    cut = max(row.name.rfind(mark, 1, LABEL) + 1 for mark in " _-.") or LABEL
    rest = row.name[cut:]
    return row.name[:cut], rest if len(rest) < LABEL else f" {rest[: LABEL - 2]}…"


def _shown(cell: Cell | None) -> str:
    return "" if cell is None else "–" if cell.value is None else f"{cell.value:.2f}"


def _shown_interval(cell: Cell | None, whole: bool) -> str:
    """whole: in whole percent. The bounds of a skill can be far below zero, and are never known to a tenth."""
    if cell is None or cell.ci95 is None:
        return ""
    low, high = (f"{bound:.0f}" if whole or bound >= 99.95 else f"{bound:.1f}" for bound in cell.ci95)
    return f"[{low}, {high}]".replace("[-0,", "[0,").replace(" -0]", " 0]")


def as_records(comparison: Comparison) -> list[dict[str, Any]]:
    """One record a figure and row: table, task, row, kind, figure, value, low, high, n (JSON numbers or None)."""
    records = []
    for table, task, _ in TABLES:
        for row in comparison.rows:
            for figure in FIGURES[task]:
                cell = row.cells.get((task, figure))
                if cell is not None:
                    low, high = cell.ci95 or (None, None)
                    where = {"table": table, "task": task, "row": row.name.strip(), "kind": row.kind, "figure": figure}
                    records.append(where | {"value": cell.value, "low": low, "high": high, "n": cell.n})
    return records


def as_json(comparison: Comparison) -> dict[str, Any]:
    return {"records": as_records(comparison), "notes": list(comparison.notes)}


def as_csv(comparison: Comparison) -> str:
    """The records, one a line, with a header; figures that do not exist are empty."""
    out = io.StringIO()
    writer = csv.DictWriter(
        out, ["table", "task", "row", "kind", "figure", "value", "low", "high", "n"], lineterminator="\n"
    )
    writer.writeheader()
    writer.writerows(as_records(comparison))
    return out.getvalue()
