"""The overview's figures: curves from metrics.jsonl, tables of the evaluations with the trivial answers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from avst import tables
from avst.metrics import QuestionResult
from avst.trivial import annotated_extent, most_frequent_name
from avst.types import Question, Space
from avst.word_vectors import WordVectors

MOST_POINTS = 2000  # more than a screen has columns; longer runs are averaged in bins
NOT_CURVES = {"step", "start", "time_s", "elapsed_s", "epoch", "total_flos", "train_loss"}
NOT_CURVES_FROM = ("train_", "seconds/")


def curves(metrics: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """{"steps": [step], "series": {name: [value or None, one a step]}} of all that was logged over steps."""
    rows = [row for row in metrics if isinstance(row.get("step"), int) and "train_runtime" not in row]
    by_step: dict[int, dict[str, float]] = {}
    for row in rows:
        numbers = {key: float(v) for key, v in row.items() if _is_figure(key, v)}
        by_step.setdefault(row["step"], {}).update(numbers)
    steps = sorted(by_step)
    names = dict.fromkeys(key for step in steps for key in by_step[step])
    series = {name: [by_step[step].get(name) for step in steps] for name in names}
    return _binned(steps, series)


def _is_figure(key: str, value: object) -> bool:
    if key in NOT_CURVES or key.startswith(NOT_CURVES_FROM) or isinstance(value, bool):
        return False
    return isinstance(value, int | float) and math.isfinite(value)


def _binned(steps: list[int], series: dict[str, list[float | None]]) -> dict[str, Any]:
    size = math.ceil(len(steps) / MOST_POINTS) or 1
    cuts = [slice(at, at + size) for at in range(0, len(steps), size)]

    def mean(values: Sequence[float | None]) -> float | None:
        known = [v for v in values if v is not None]
        return float(f"{sum(known) / len(known):.5g}") if known else None

    return {
        "steps": [steps[cut][-1] for cut in cuts],
        "bin": size,
        "series": {name: [mean(values[cut]) for cut in cuts] for name, values in series.items()},
    }


def table(
    questions: Sequence[Question],
    results: Mapping[str, Sequence[QuestionResult]],
    spaces: Mapping[str, Space],
    words: WordVectors,
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """Tables 2 and 3 as the page draws them: {"blocks": [{table, task, title, n, figures, rows: [{name, kind, cells:
    [[value, low, high, n] or None]}]}], "notes"}. results: row -> one result a question, in order."""
    frames = annotated_extent(questions)
    for video, space in spaces.items():
        frames[video] = (float(space.source[0]), float(space.source[1]))
    extra = [f"most frequent name: {name!r}"] if (name := most_frequent_name(questions)) else []
    comparison = tables.compare(results, tables.trivial_results(questions, words, frames), [*notes, *extra])
    blocks = []
    for label, task, title in tables.TABLES:
        if not comparison.n_questions[task]:
            continue
        figures = tables.FIGURES[task]
        rows = []
        for row in comparison.rows:
            cells = [_cell(row.cells.get((task, figure))) for figure in figures]
            if any(cells):
                rows.append({"name": row.name.strip(), "kind": row.kind, "cells": cells})
        n = comparison.n_questions[task]
        blocks.append({"table": label, "task": task, "title": title, "n": n, "figures": list(figures), "rows": rows})
    return {"blocks": blocks, "notes": list(comparison.notes)}


def _cell(cell: tables.Cell | None) -> list[float | None] | None:
    if cell is None:
        return None
    low, high = cell.ci95 or (None, None)
    return [None if v is None else round(v, 3) for v in (cell.value, low, high)] + [cell.n]
