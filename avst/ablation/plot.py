"""Differences to the full recipe as one picture: a panel a task, a point with its interval for each variant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from avst.ablation.table import AblationTable, Row
from avst.metrics import FIGURES
from avst.tables import TABLES
from avst.types import Task

MARKS = "osD^vPX*<>"


def plot_effects(table: AblationTable, path: Path) -> Path | None:
    """A PNG at `path`; None where no variant can be compared with the full recipe yet."""
    rows = [row for row in table.rows if row.kind == "variant" and any(_known(row, task) for _, task, _ in TABLES)]
    tasks = [task for _, task, _ in TABLES if any(_known(row, task) for row in rows)]
    if not rows:
        return None
    tallest = max(len(FIGURES[task]) for task in tasks)
    height = 1.3 + tallest * (0.25 + 0.17 * len(rows)) + 0.22 * len(rows)
    figure = Figure(figsize=(4.2 * len(tasks) + 0.6, height), layout="constrained")
    panels = figure.subplots(1, len(tasks), squeeze=False)[0]
    for axes, task in zip(panels, tasks, strict=True):
        _panel(axes, rows, task)
        axes.set_title(f"{task} ({table.n_questions[task]} questions)", fontsize="medium")
        axes.set_xlabel("points more or less than the full recipe")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", frameon=False, ncols=1 if len(rows) < 4 else 2)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    return path


def _known(row: Row, task: Task) -> bool:
    return any(of == task and effect.difference is not None for (of, _), effect in row.effects.items())


def _panel(axes: Axes, rows: list[Row], task: Task) -> None:
    """Figures from top to bottom, in each the variants in the table's order."""
    figures = FIGURES[task]
    step = 0.8 / max(len(rows), 1)
    for number, row in enumerate(rows):
        places, values, low, high = [], [], [], []
        for place, figure in enumerate(figures):
            effect = row.effects.get((task, figure))
            if effect is None or effect.difference is None:
                continue
            places.append(place - 0.4 + step * (number + 0.5))
            values.append(effect.difference)
            low.append(max(effect.difference - (effect.difference if effect.low is None else effect.low), 0.0))
            high.append(max((effect.difference if effect.high is None else effect.high) - effect.difference, 0.0))
        color = colormaps["tab10"](number % 10)
        style: dict[str, Any] = {
            "fmt": MARKS[number // 10 % len(MARKS)],
            "markersize": 4.5,
            "capsize": 2,
            "linewidth": 1.2,
        }
        axes.errorbar(values, places, xerr=[low, high], color=color, label=row.name.replace("$", r"\$"), **style)
    for place in range(1, len(figures)):
        axes.axhline(place - 0.5, color="0.9", linewidth=0.8)
    axes.axvline(0, color="0.3", linewidth=1)
    axes.set_yticks(range(len(figures)), figures)
    axes.set_ylim(len(figures) - 0.5, -0.5)
    axes.grid(axis="x", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
