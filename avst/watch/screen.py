"""What is known of a run -> one screen: a head line, curves, the newest group of answers.

Large terminals get plots with their bounds, small ones a line a figure. The screen is cut to the terminal, never
scrolled, so that it can be drawn again in place.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.cells import cell_len
from rich.console import Group as Renderables
from rich.text import Text

from avst.progress import spelled
from avst.watch.curves import braille, points_of, sparkline
from avst.watch.follow import Seen
from avst.watch.safe_text import safe

# Figures in the order of their importance; those that were not logged take no place. A prefix that ends in * stands for
# every figure that begins so.
FIGURES = (
    ("reward", "reward"),
    ("rewards/*/mean", ""),
    ("reward/*", "on "),  # by task
    ("loss", "loss"),
    ("frac_reward_zero_std", "flat groups"),
    ("reward_std", "group spread"),
    ("kl", "KL"),
    ("entropy", "entropy"),
    ("completions/mean_length", "length"),
    ("completions/clipped_ratio", "cut off"),
    ("learning_rate", "learning rate"),
    ("grad_norm", "gradient norm"),
    ("tokens_per_second", "tokens/s"),
)
COLOURS = ("green", "cyan", "magenta", "yellow", "blue", "bright_green", "bright_cyan", "bright_magenta")
LARGE = 34  # lines from which plots take the place of single lines
ASCII = {"…": ".", "─": "-", "━": "#", "–": "-", "│": "|"}  # for terminals that know no more
PLOT = 5  # lines of a plot, its title not counted


def screen(seen: Seen, run: Path, width: int, height: int, chosen: int = 0, ascii_only: bool = False) -> Renderables:
    """At most `height` lines of `width` columns. chosen: which of the newest step's groups is shown."""
    lines = _head(seen, run, width)
    if seen.rows:
        shown = figures(seen.rows)
        large = height >= LARGE and width >= 60 and not ascii_only
        below = 0 if not seen.groups else max(8, height // 3)
        room = height - len(lines) - below
        lines += (_plots if large else _sparklines)(seen.rows, shown, width, room, ascii_only)
    if seen.groups:
        lines += _group(seen, chosen % len(seen.groups), width, height - len(lines))
    for line in lines:
        line.truncate(width, overflow="ellipsis")
        if ascii_only:
            line.plain = "".join(c if c.isascii() else ASCII.get(c, "?") for c in line.plain)
    return Renderables(*lines[:height])


def figures(rows: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    """(key of the log, words for it), as FIGURES orders them. Example: [("reward", "reward"), ("kl", "KL")]."""
    keys = sorted({key for row in rows for key, value in row.items() if isinstance(value, int | float)})
    found = []
    for pattern, words in FIGURES:
        before, star, after = pattern.partition("*")
        for key in keys:
            part = key[len(before) : len(key) - len(after)]
            if key == pattern:
                found.append((key, words))
            elif star and key.startswith(before) and key.endswith(after) and part and "/" not in part:
                found.append((key, words + part))
    return found


def _head(seen: Seen, run: Path, width: int) -> list[Text]:
    title = Text.assemble((safe(str(run)), "bold"))
    if seen.command or seen.name:
        title.append(f"  avst {safe(seen.command)} {safe(seen.name)}", "dim")
    if seen.waiting:
        found = "there is no run in this folder yet" if run.is_dir() else "there is no such folder yet"
        return [title, Text(f"waiting for the run to begin: {found}", "yellow")]
    if not seen.rows:
        return [title, Text("begun; waiting for the first log line", "yellow")]
    total = seen.max_steps
    words = Text(f"step {seen.step}{f'/{total}' if total else ''} ")
    if total:
        done = round(20 * min(seen.step / total, 1))
        words.append("━" * done, "green").append("━" * (20 - done), "bright_black")
    if (pace := seen.seconds_per_step) is not None:
        words.append(f"  {pace:.2g} s/step")
    if seen.finished:
        words.append("  finished", "green")
    else:
        if seen.left_s is not None:
            words.append(f"  left {spelled(seen.left_s)}")
        if seen.age_s is not None:
            late = pace is not None and seen.age_s > max(60.0, 10 * pace)
            words.append(f"  last line {spelled(seen.age_s)} ago", "red" if late else "dim")
    return [title, words]


def _sparklines(
    rows: Sequence[dict[str, Any]], shown: Sequence[tuple[str, str]], width: int, room: int, ascii_only: bool
) -> list[Text]:
    """A figure's words, newest value and curve, in as many columns as there is width for."""
    columns = max(1, min(width // 38, 3))
    wide = width // columns
    shown = shown[: max(room, 1) * columns]
    height = -(-len(shown) // columns)
    lines = []
    for i in range(height):
        line = Text()
        for place, (key, words) in enumerate(shown[i::height]):
            points = points_of(rows, key)
            curve = sparkline(points, max(wide - 26, 4), ascii_only)
            line.append(_fit(words, 14)).append(f"{_number(points[-1][1]) if points else '–':>9} ", "bold")
            line.append(curve, COLOURS[(place * height + i) % len(COLOURS)]).append("  ")
        lines.append(line)
    return lines


def _plots(
    rows: Sequence[dict[str, Any]], shown: Sequence[tuple[str, str]], width: int, room: int, ascii_only: bool
) -> list[Text]:
    """Braille plots side by side, each below its words, newest value and bounds."""
    columns = max(1, width // 40)
    wide = width // columns
    shown = shown[: columns * max(room // (PLOT + 1), 1)]
    lines: list[Text] = []
    for start in range(0, len(shown), columns):
        band = [Text() for _ in range(PLOT + 1)]
        for place, (key, words) in enumerate(shown[start : start + columns], start=start):
            points = points_of(rows, key)
            values = [y for _, y in points]
            ends = f" {_number(min(values))} to {_number(max(values))}" if values else ""
            head = f"{words} "
            newest = _number(values[-1]) if values else "–"
            band[0].append(head).append(newest, "bold")
            band[0].append(_fit(ends, max(wide - 2 - cell_len(head) - len(newest), 0)), "dim").append("  ")
            for line, text in zip(band[1:], braille(points, wide - 2, PLOT), strict=True):
                line.append(text, COLOURS[place % len(COLOURS)]).append("  ")
        lines += band
    return lines


def _group(seen: Seen, chosen: int, width: int, room: int) -> list[Text]:
    """One question with its gold answer and the answers to it, best first."""
    group = sorted(seen.groups[chosen], key=lambda row: -(_float(row.get("total")) or 0.0))
    first = group[0]
    title = Text(f"answers of step {first.get('step')}, question {chosen + 1} of {len(seen.groups)} ", "bold")
    title.append(f"({safe(str(first.get('task', '')))}) {safe(str(first.get('question_id', '')))}", "dim")
    lines = [Text("─" * width, "bright_black"), title]
    lines += _wrapped("asked ", safe(str(first.get("prompt", ""))), width, 2 if room > 16 else 1, "")
    lines += _wrapped("gold  ", safe(str(first.get("gold", ""))), width, 2 if room > 16 else 1, "green")
    left = room - len(lines)
    each = max(2, min(left // max(len(group), 1), 5))
    count = max(left // each, 1)
    for row in group if count >= len(group) else [*group[: count - 1], group[-1]]:  # the best and the worst
        lines += [_paid(row), *_wrapped("  ", safe(str(row.get("completion", ""))), width, each - 1, "")]
    return lines[:room]


def _paid(row: dict[str, Any]) -> Text:
    """Example: total 1.25  adv. +0.71  format 1.00  object –  12 tokens, cut off."""
    advantage = _float(row.get("advantage"))
    line = Text(f"total {_two(row.get('total'))}  ")
    if advantage is not None:
        line.append(f"adv. {advantage:+.2f}", "green" if advantage > 0 else "red" if advantage < 0 else "dim")
    for key, value in row.items():
        if key.startswith("reward_"):
            line.append(f"  {safe(key.removeprefix('reward_'))} {_two(value)}", "dim")
    line.append(f"  {row.get('n_tokens', '?')} tokens", "dim")
    return line.append(", cut off", "yellow") if row.get("truncated") else line


def _wrapped(label: str, text: str, width: int, most: int, style: str) -> list[Text]:
    """The text in at most `most` lines behind its label, the last one ending in … where there is more."""
    wide = max(width - len(label), 8)
    parts: list[str] = []
    rest = text
    while rest and len(parts) < most:
        cut = rest
        while cell_len(cut) > wide:
            cut = cut[: max(len(cut) - max((cell_len(cut) - wide + 1) // 2, 1), 1)]
        parts.append(cut)
        rest = rest[len(cut) :]
    if rest:
        parts[-1] = f"{parts[-1][:-1]}…"
    labels = [label, *(" " * len(label) for _ in parts[1:])]
    shown = zip(labels, parts or ["(nothing)"], strict=True)
    return [Text().append(before, "dim").append(part, style) for before, part in shown]


def _fit(text: str, width: int) -> str:
    return text[: width - 1] + "…" if len(text) > width else text.ljust(width)


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    size = abs(value)
    if size and (size < 0.001 or size >= 100000):
        return f"{value:.2g}"
    return f"{value:.0f}" if size >= 1000 else f"{value:.1f}" if size >= 100 else f"{value:.3f}"


def _two(value: Any) -> str:
    number = _float(value)
    return "–" if number is None else f"{number:.2f}"


def _float(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and value == value else None
