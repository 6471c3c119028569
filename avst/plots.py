"""Curves of a run as one picture, without a display."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

SMOOTH = 10  # steps of the running mean; single steps are drawn faintly behind it


def plot_rewards(metrics: Sequence[Mapping[str, Any]], path: Path) -> Path:
    """The total reward and each part over the steps of a run (lines of metrics.jsonl), as a PNG at `path`."""
    rows = [row for row in metrics if row.get("reward") is not None]
    parts = sorted({key for row in rows for key in row if key.startswith("rewards/") and key.endswith("/mean")})
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    total, each = figure.subplots(1, 2)
    _curve(total, rows, "reward", "total")
    for part in parts:
        _curve(each, rows, part, part.split("/")[1])
    for axes, title in ((total, "total reward"), (each, "by part")):
        axes.set(title=title, xlabel="optimizer step")
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    each.set_ylim(0, 1.02)
    if parts:
        each.legend(frameon=False, fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    return path


def _curve(axes: Axes, rows: Sequence[Mapping[str, Any]], key: str, label: str) -> None:
    points = [(row["step"], row[key]) for row in rows if row.get(key) is not None]
    if not points:
        return
    steps, values = zip(*points, strict=True)
    (line,) = axes.plot(steps, values, alpha=0.25, linewidth=1)
    mean = [sum(values[max(0, i - SMOOTH + 1) : i + 1]) / min(i + 1, SMOOTH) for i in range(len(values))]
    axes.plot(steps, mean, color=line.get_color(), label=label, linewidth=1.8)
