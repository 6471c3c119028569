"""What the model sees and hears, as PNGs: a contact sheet, and the spectrogram with the order of media tokens."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from avst.preview.look import Look, media_runs

COLOURS = ("#e6194b", "#3cb44b", "#ffb300", "#4363d8", "#f032e6", "#00a5a5")
KINDS = {"video": "#4c78a8", "audio": "#f58518", "image": "#54a24b"}
MARKED = "#b58900"  # the seconds of gold intervals
MOST_FRAMES = 48  # of a longer clip, evenly chosen


def contact_sheet(look: Look, path: Path) -> Path:
    """The frames after resizing, with their seconds and the gold boxes of that time drawn in the model's space."""
    frames, times = look.clip.frames, look.clip.times_s
    chosen = np.unique(np.linspace(0, len(frames) - 1, min(len(frames), MOST_FRAMES)).round().astype(int))
    height, width = frames.shape[1:3]
    columns = min(len(chosen), 8 if width <= 2 * height else 5)
    rows = math.ceil(len(chosen) / columns)
    cell = 1.6
    figure = Figure(figsize=(columns * cell, rows * (cell * height / width + 0.25) + 0.9), layout="constrained")
    grid = np.atleast_1d(figure.subplots(rows, columns, squeeze=False)).flatten()
    for axes in grid:
        axes.set_axis_off()
    for axes, index in zip(grid, chosen, strict=False):
        axes.imshow(frames[index], interpolation="nearest")
        at_s = float(times[index])
        gold = any(span.start <= at_s <= span.end for o in look.question.gold.objects for span in o.intervals)
        axes.set_title(f"{at_s:.2f} s{' gold' if gold else ''}", fontsize=7, pad=2, color=MARKED if gold else "black")
        _boxes(axes, look, float(times[index]))
    names = dict.fromkeys(gold.name for gold in look.question.gold.objects if gold.track.times_s)
    handles = [Patch(facecolor="none", edgecolor=_colour(i), label=name) for i, name in enumerate(names)]
    if handles:
        figure.legend(
            handles=handles, loc="outside lower center", ncols=min(4, len(handles)), fontsize=7, frameon=False
        )
    shown = "" if len(chosen) == len(frames) else f", {len(chosen)} shown"
    figure.suptitle(f"{look.question.text}\n{len(frames)} frames of {width}x{height} px{shown}", fontsize=8, wrap=True)
    return _saved(figure, path)


def _boxes(axes: Axes, look: Look, at_s: float) -> None:
    """Gold boxes whose time is nearest to this frame's, by at most half of the annotated step."""
    space, (height, width) = look.prompt.space, look.clip.frames.shape[1:3]
    sx, sy = width / space.model[0], height / space.model[1]  # 1, unless the model speaks in thousandths
    for i, gold in enumerate(look.question.gold.objects):
        for t, box in zip(gold.track.times_s, gold.track.boxes_px, strict=True):
            if abs(t - at_s) < 0.5 / look.clip.fps + 1e-6 and any(box):
                x1, y1, x2, y2 = space.to_model(box)
                corner = (x1 * sx - 0.5, y1 * sy - 0.5)
                axes.add_patch(
                    Rectangle(corner, (x2 - x1) * sx, (y2 - y1) * sy, fill=False, edgecolor=_colour(i), linewidth=1.3)
                )


def sound_sheet(look: Look, path: Path) -> Path:
    """The mel features the model is given (where there are any), gold intervals over them, and the token order."""
    runs = media_runs(look.order)
    heard = look.mel is not None
    figure = Figure(figsize=(9, 4.4 if heard else 1.8), layout="constrained")
    if heard:
        above, below = figure.subplots(2, 1, height_ratios=[4, 1])
        _spectrogram(above, look)
    else:
        below = figure.subplots()
    _strip(below, runs, heard)
    return _saved(figure, path)


def _spectrogram(axes: Axes, look: Look) -> None:
    mel, seconds = look.mel
    end = mel.shape[1] * seconds
    axes.imshow(mel, origin="lower", aspect="auto", extent=(0, end, 0, mel.shape[0]), cmap="magma")
    for i, gold in enumerate(look.question.gold.objects):
        for interval in gold.intervals:
            axes.axvspan(interval.start, interval.end, ymin=0.94 - 0.06 * i, ymax=0.99 - 0.06 * i, color=_colour(i))
            axes.text(
                interval.start, mel.shape[0] * (0.925 - 0.06 * i), f" {gold.name}", color="white", fontsize=7, va="top"
            )
    axes.set(title=f"mel features given to the model, {end:.2f} s", ylabel="mel band", xlabel="seconds", xlim=(0, end))


def _strip(axes: Axes, runs: list[tuple[str, int]], heard: bool) -> None:
    start = 0
    for kind, n in runs:
        axes.barh(0, n, left=start, color=KINDS.get(kind, "#999999"), edgecolor="white", linewidth=0.8)
        start += n
    handles: list[Any] = []
    for kind, colour in KINDS.items():
        if total := sum(n for k, n in runs if k == kind):
            handles.append(Patch(color=colour, label=f"{kind}: {total} tokens"))
    axes.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.45), ncols=3, fontsize=8, frameon=False)
    order = "order of media tokens in the prompt" + ("" if heard else " (no sound is given)")
    axes.set(title=order, yticks=[], xlim=(0, max(start, 1)), xlabel="")
    axes.title.set_fontsize(9)


def _colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]


def _saved(figure: Figure, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    return path
