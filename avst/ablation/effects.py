"""Figures of a row over seeds, and its difference to the full recipe with an interval.

Letters: S seeds, Q questions of one task, F figures of that task, D bootstrap draws.

The interval of a difference is a paired bootstrap over videos and seeds: each draw takes videos with replacement, the
same for both recipes and all seeds, and seeds with replacement, the same for both recipes. With one seed it knows
nothing of the spread over seeds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from avst.metrics import DRAWS, FIGURES, QuestionResult, bootstrap_means, figure_values, interval95
from avst.types import TASKS, Task

BySeed = Mapping[int, Sequence[QuestionResult]]


@dataclass(frozen=True, slots=True)
class Effect:
    """One figure of one row, percent. per_seed: seed -> value;  mean, sd: over seeds, sd (n - 1) None for a single one;
    difference: mean minus that of the full recipe over the seeds that both have, with its 95% interval;  n: questions.
    """

    per_seed: Mapping[int, float]
    mean: float
    sd: float | None
    n: int
    difference: float | None = None
    low: float | None = None
    high: float | None = None


def effects(row: BySeed, full: BySeed | None, figures: Iterable[str] | None = None) -> dict[tuple[Task, str], Effect]:
    """(task, figure) -> effect, for all figures that have a question. full: None for the full recipe itself.

    A row of one evaluation for all seeds (the untrained model, a trivial answer) has the key -1.
    """
    wanted = None if figures is None else set(figures)
    found: dict[tuple[Task, str], Effect] = {}
    for task in TASKS:
        own = _values(row, task)
        other = _values(full, task) if full is not None else {}
        videos = [r.video for r in _of_task(next(iter(row.values()), ()), task)]
        for column, figure in enumerate(FIGURES[task]):
            if wanted is None or figure in wanted:
                effect = _effect(own, other, column, videos)
                if effect is not None:
                    found[task, figure] = effect
    return found


def _effect(
    own: Mapping[int, np.ndarray], other: Mapping[int, np.ndarray], column: int, videos: Sequence[str]
) -> Effect | None:
    columns = {seed: values[:, column] for seed, values in own.items() if not np.isnan(values[:, column]).all()}
    if not columns:
        return None
    per_seed = {seed: float(np.nanmean(values)) for seed, values in columns.items()}
    means = np.array(list(per_seed.values()))
    sd = float(means.std(ddof=1)) if len(means) > 1 else None
    n = int((~np.isnan(next(iter(columns.values())))).sum())
    pairs = _pairs(columns, {seed: values[:, column] for seed, values in other.items()})
    if not pairs:
        return Effect(per_seed, float(means.mean()), sd, n)
    differences_SQ = np.stack([mine - theirs for mine, theirs in pairs])
    bounds = interval95(_draws(differences_SQ, videos)) or (None, None)
    difference = float(np.nanmean(differences_SQ, axis=1).mean())
    return Effect(per_seed, float(means.mean()), sd, n, difference, bounds[0], bounds[1])


def _pairs(own: Mapping[int, np.ndarray], other: Mapping[int, np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Values of both for each seed that both have; what has no seed stands beside each."""
    if -1 in own:
        return [(own[-1], theirs) for theirs in other.values()]
    return [(mine, other[seed]) for seed, mine in own.items() if seed in other]


def _draws(differences_SQ: np.ndarray, videos: Sequence[str], seed: int = 0) -> np.ndarray:
    """(D,) mean differences, videos and seeds drawn with replacement."""
    means_DS = bootstrap_means(differences_SQ.T, videos, DRAWS, seed)
    count = means_DS.shape[1]
    picks_DS = np.random.default_rng(seed + 1).integers(0, count, size=means_DS.shape)
    drawn: np.ndarray = np.take_along_axis(means_DS, picks_DS, axis=1).mean(axis=1)
    return drawn


def _values(row: BySeed, task: Task) -> dict[int, np.ndarray]:
    """seed -> (Q, F), questions in the order of their ids."""
    return {seed: figure_values(_of_task(results, task), task) for seed, results in row.items()}


def _of_task(results: Sequence[QuestionResult], task: Task) -> list[QuestionResult]:
    return sorted((r for r in results if r.task == task), key=lambda r: r.id)
