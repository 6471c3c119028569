"""The training forward and backward: a packed group against the repeated computation.

Compared, on one model and on the same log-probs (avst's packed row; the library's forward over G rows
[prompt | answer], see scripts.bench.forward_arms):

`tokens`    repeated seconds over packed seconds, divided by the ratio of tokens G(P+C)/(P+GC). Text alone, so that only
            the language model is measured. At Qwen2.5-VL's shape with hidden 256 and 6 layers, at every P, G, C, and
            through one layer of Qwen2.5-VL-3B at its true width, where it is hardest (C 256; the head stays small).
`products`  the same, divided by the ratio of multiplications. Tokens are not alike: an answer's token attends to the
            whole prompt, a prompt's to half of it on average, and the head runs on answers alone in both arms. In a
            narrow model attention is much of the work behind a long prompt (512 multiplications a pair against 754k a
            token and layer at hidden 256; 4,096 against 77M in the 3B). A cell's `ceiling` is the ratio of
            multiplications over that of tokens: what `tokens` comes to where every multiplication takes as long.
`images`    with the vision tower, trained: the repeated computation runs it G times.
`slope`     seconds of the packed row over G·C by least squares, and its slope over that of the answers alone: what a
            token more costs in one plain causal row (linear layers, head, attention) at P + C/2 keys, the mean of an
            answer's token. It is (t(L + w) - t(L - w)) / 2w at L = P + C/2, exact for a cost quadratic in length.

Rows of the repeated arm are alike in shape, so one forward (a batch of rows) is timed and taken G / batch times; one
row and a batch are tried at every size, and the faster a row counts. Each has a backward of its own, so that memory is
that of one row or batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from statistics import median

import numpy as np
import torch

from scripts.bench.figure import Figure
from scripts.bench.forward_arms import Shape, image_prompt, packed, repeated, text_prompt, words
from scripts.bench.timing import by_turns, medians, ratio

GROUP = "forward"
THREADS = 1
NARROW = Shape()
LAYER_3B = Shape(hidden=2048, layers=1, heads=16, kv_heads=2, width=11008)
SMALL = Shape(hidden=64, layers=2, heads=4, width=192)


@dataclass(frozen=True, slots=True)
class Grid:
    """All of P, G, C;  batch: rows of the repeated arm's larger try, 1 for none."""

    prompts: tuple[int, ...] = (512, 1250, 4000)
    groups: tuple[int, ...] = (4, 6, 8, 16)
    sizes: tuple[int, ...] = (64, 256)
    repeats: int = 3
    batch: int = 2


@dataclass(frozen=True, slots=True)
class Cell:
    """One P, G, C. ratio: repeated / packed;  tokens, products: over their ideals;  ceiling: see above;
    rows: of the repeated arm in one forward, the faster way;  seconds: of all runs, repeated for all G rows."""

    P: int
    G: int
    C: int
    ratio: float
    tokens: float
    products: float
    ceiling: float
    rows: int
    seconds: dict[str, list[float]]

    def __str__(self) -> str:
        return f"P {self.P:,}, G {self.G}, C {self.C}"


def run(quick: bool) -> list[Figure]:
    with _threads(THREADS):
        if quick:
            grid = Grid((128,), (4,), (16,), repeats=1)
            return [
                *ideals("hidden 64", SMALL, grid),
                with_images(SMALL, 320, 4, 16, images=2, repeats=1),
                *slopes(SMALL, 128, (16,), (32, 64, 128), repeats=1),
            ]
        return [
            *ideals("hidden 256", NARROW, Grid()),
            *ideals("a layer of the 3B", LAYER_3B, Grid(groups=(4, 16), sizes=(256,), repeats=2, batch=1), each=False),
            with_images(Shape(depth=4), 1250, 6, 64, images=8, repeats=3),
            *slopes(NARROW, 1250, (64, 256), (256, 512, 1024, 2048, 4096), repeats=3),
        ]


def ideals(label: str, shape: Shape, grid: Grid, each: bool = True) -> list[Figure]:
    """Every cell against its ideals, and the least of them. each: a figure a cell as well."""
    cells = [cell for P in grid.prompts for C in grid.sizes for cell in _cells(shape, P, C, grid)]
    how = {"shape": asdict(shape), "threads": torch.get_num_threads(), "repeats": grid.repeats}
    figures = [
        Figure(GROUP, f"{label}: {cell}, of tokens", cell.tokens, "x", ">= 0.9", how | asdict(cell))
        for cell in cells
        if each
    ]
    how["cells"] = [asdict(cell) for cell in cells]
    for name in ("tokens", "products"):
        least = min(cells, key=lambda cell: float(getattr(cell, name)))
        value = float(getattr(least, name))
        figures.append(Figure(GROUP, f"{label}: least, of {name} ({least})", value, "x", ">= 0.9", how))
    return figures


def _cells(shape: Shape, P: int, C: int, grid: Grid) -> Iterator[Cell]:
    """All groups of one P and C by turns, with the rows that they share."""
    model, prompt = shape.build(), text_prompt(P)
    answers = words(max(grid.groups), C)
    arms = {f"packed {G}": packed(model, prompt, answers[:G]) for G in grid.groups}
    batches = sorted({1, grid.batch})
    arms |= {f"rows {n}": repeated(model, prompt, answers[:n], batch=n) for n in batches}
    same = arms[f"packed {grid.groups[0]}"]()[:C], arms["rows 1"]()
    torch.testing.assert_close(*same, rtol=1e-3, atol=1e-3)  # one computation in two ways, or there is nothing to time
    seconds = by_turns(arms, grid.repeats)
    for n in batches:
        seconds[f"rows {n}"] = [s / n for s in seconds[f"rows {n}"]]
    faster = min(batches, key=lambda n: median(seconds[f"rows {n}"]))
    for G in grid.groups:
        pair = {"packed": seconds[f"packed {G}"], "repeated": [G * s for s in seconds[f"rows {faster}"]]}
        found = ratio(pair, "repeated", "packed")
        tokens = G * (P + C) / (P + G * C)
        products = shape.products(P, G, C, packed=False) / shape.products(P, G, C, packed=True)
        yield Cell(P, G, C, found, found / tokens, found / products, products / tokens, faster, pair)


def with_images(shape: Shape, P: int, G: int, C: int, images: int, repeats: int) -> Figure:
    """The vision tower in both arms, with gradient: G times and once."""
    model = shape.build()
    prompt, answers = image_prompt(model, P, images), words(G, C)
    arms = {"packed": packed(model, prompt, answers), "row": repeated(model, prompt, answers[:1])}
    torch.testing.assert_close(arms["packed"]()[:C], arms["row"](), rtol=1e-3, atol=1e-3)
    seconds = by_turns(arms, repeats)
    pair = {"packed": seconds["packed"], "repeated": [G * s for s in seconds["row"]]}
    how = {"shape": asdict(shape), "P": P, "G": G, "C": C, "images": images, "threads": torch.get_num_threads()}
    how |= {"seconds": pair, "medians": medians(pair), "tokens": G * (P + C) / (P + G * C)}
    name = f"with the vision tower: P {P:,}, G {G}, C {C}, repeated / packed"
    return Figure(GROUP, name, ratio(pair, "repeated", "packed"), "x", "", how)


def slopes(shape: Shape, P: int, sizes: tuple[int, ...], totals: tuple[int, ...], repeats: int) -> list[Figure]:
    """For each C: how well seconds lie on a line over G·C, and its slope over that of the answers alone."""
    model, prompt = shape.build(), text_prompt(P)
    figures = []
    for C in sizes:
        arms = {str(n): packed(model, prompt, words(n // C, C)) for n in totals}
        half, first = 4 * P // 5, 16  # the plain rows' answers begin well before the place that is asked about
        start = P + C // 2 - half - first
        for name, size in (("less", first), ("more", first + 2 * half)):
            arms[name] = repeated(model, text_prompt(start), words(1, size))
        seconds = by_turns(arms, repeats)
        middle = medians(seconds)
        slope, intercept, r2 = fit(totals, [middle[str(n)] for n in totals])
        alone = (middle["more"] - middle["less"]) / (2 * half)
        how = {
            "shape": asdict(shape),
            "P": P,
            "C": C,
            "threads": torch.get_num_threads(),
            "slope_us": 1e6 * slope,
            "intercept_s": intercept,
            "alone_us": 1e6 * alone,
            "plain_rows": {"less": start + first, "more": start + first + 2 * half},
            "seconds": seconds,
            "medians": middle,
        }
        line = f"P {P:,}, C {C}: {1e6 * slope:.0f} µs a token + {intercept:.2f} s"
        figures += [
            Figure(GROUP, f"{line}, R²", r2, "", ">= 0.98", how),
            Figure(GROUP, f"P {P:,}, C {C}: slope over that of the answers alone", slope / alone, "x", "<= 1.15", how),
        ]
    return figures


def fit(x: tuple[int, ...], y: list[float]) -> tuple[float, float, float]:
    """(slope, intercept, R²) of the line of least squares."""
    slope, intercept = np.polyfit(x, y, 1)
    left = np.asarray(y) - (slope * np.asarray(x) + intercept)
    return float(slope), float(intercept), float(1 - left.var() / np.var(y))


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
