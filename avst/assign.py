"""One-to-one assignment when several aims are ranked: pairs, then similarity, then equal names, then the order written.

Letters: P predicted names, M gold names, K candidates (the predicted names that can appear in some best assignment).

All four aims go into one Python integer a pair (of any length, so nothing is rounded), and the Hungarian method
maximises the sum. Similarities are read to 1e-9: two sums that differ by less are a tie, which float noise must not
decide.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

STEPS = 10**9  # similarities are compared in steps of 1 / STEPS


def assign_names(similarity: np.ndarray, equal: np.ndarray, tau: float) -> list[tuple[int, int]]:
    """The best one-to-one pairs (i_predicted, i_gold) of similarity >= tau, sorted by i_gold.

    similarity: float (P, M);  equal: bool (P, M).  Best means: most pairs; then the greatest sum of similarities;
    then most equal names; then the first gold name has the earliest predicted one it can, then the second, …
    """
    golds = similarity.shape[1]
    steps = np.rint(similarity * STEPS).astype(np.int64)
    allowed = steps >= round(tau * STEPS) - 1  # rounding must not decide at the threshold either
    best = [_best_rows(steps[:, j], equal[:, j], allowed[:, j], golds) for j in range(golds)]
    firsts = [(rows[0], j) for j, rows in enumerate(best) if rows]
    if len({row for row, _ in firsts}) == len(firsts):  # each gold name can have its own favourite
        return firsts
    return _settle(best, steps, equal)


def _best_rows(steps: np.ndarray, equal: np.ndarray, allowed: np.ndarray, count: int) -> list[int]:
    """The `count` best rows for one gold name, best first.

    Others are never needed: at most count - 1 of these can be taken by other gold names, and changing to one that is
    left does not lower any aim. So 10,000 listed names against 3 gold ones are at most 9 candidates.
    """
    rows = np.flatnonzero(allowed)
    keys = 2 * steps[rows] + equal[rows]
    if len(rows) > count:
        least = np.partition(keys, len(keys) - count)[len(keys) - count]
        above, at_least = rows[keys > least], rows[keys == least]
        rows = np.concatenate([above, at_least[: count - len(above)]])
        keys = 2 * steps[rows] + equal[rows]
    return [int(row) for row in rows[np.lexsort((rows, -keys))]]


def _settle(best: Sequence[Sequence[int]], steps: np.ndarray, equal: np.ndarray) -> list[tuple[int, int]]:
    golds = len(best)
    candidates = sorted({row for rows in best for row in rows})
    place = {row: k for k, row in enumerate(candidates)}
    base = len(candidates) + 1
    pair_worth = 2 * golds * (golds + 1) * (STEPS + 1) + 1  # more than all similarities and equal names can add up to
    worth = [[0] * len(candidates) for _ in range(golds)]
    for j, rows in enumerate(best):
        for row in rows:
            likeness = pair_worth + int(steps[row, j]) * (golds + 1) + int(equal[row, j])
            early = (len(candidates) - place[row]) * base ** (
                golds - 1 - j
            )  # digits of one number: gold 0 decides first
            worth[j][place[row]] = likeness * base**golds + early
    return [(candidates[k], j) for j, k in enumerate(max_worth_assignment(worth)) if k is not None]


def max_worth_assignment(worth: Sequence[Sequence[int]]) -> list[int | None]:
    """For each row its column, one to one, so that the summed worth is greatest; None where a row stays alone.

    worth: integers >= 0, (M rows, K columns); 0 means "no pair". Hungarian method with potentials, O(M² (K + M)),
    exact.
    """
    rows = len(worth)
    columns = len(worth[0]) if rows else 0
    costs = [
        [0, *(-w for w in row), *([0] * rows)] for row in worth
    ]  # index 0 is a sentinel, the last `rows` mean "alone"
    total = columns + rows
    infinity = 1 + sum(max(row, default=0) for row in worth) * 4
    row_price, column_price = [0] * (rows + 1), [0] * (total + 1)
    row_of = [0] * (total + 1)  # 0: free; rows count from 1
    for row in range(1, rows + 1):
        row_of[0], column = row, 0
        slack, came_from, seen = [infinity] * (total + 1), [0] * (total + 1), [False] * (total + 1)
        while True:
            seen[column] = True
            here, step, nearest = row_of[column], infinity, 0
            cost, price = costs[here - 1], row_price[here]
            for j in range(1, total + 1):
                if seen[j]:
                    continue
                reduced = cost[j] - price - column_price[j]
                if reduced < slack[j]:
                    slack[j], came_from[j] = reduced, column
                if slack[j] < step:
                    step, nearest = slack[j], j
            for j in range(total + 1):
                if seen[j]:
                    row_price[row_of[j]] += step
                    column_price[j] -= step
                else:
                    slack[j] -= step
            column = nearest
            if row_of[column] == 0:
                break
        while column:
            row_of[column] = row_of[came_from[column]]
            column = came_from[column]
    columns_of: list[int | None] = [None] * rows
    for j in range(1, columns + 1):
        if row_of[j] and worth[row_of[j] - 1][j - 1] > 0:
            columns_of[row_of[j] - 1] = j - 1
    return columns_of
