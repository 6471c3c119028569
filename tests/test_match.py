"""Matching and overlaps against a second computation: sampling, torchvision, brute force over all assignments."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from torchvision.ops import box_iou as torchvision_box_iou

from avst.assign import STEPS, assign_names, max_worth_assignment
from avst.match import box_iou, interval_union_iou, match_boxes, match_names, pair_times, track_iou, visible_boxes
from avst.types import NOT_VISIBLE, Interval, Track

halves = st.integers(0, 20).map(lambda n: n / 2)
spans = st.lists(st.tuples(halves, st.integers(1, 10).map(lambda n: n / 2)), max_size=5)


@given(spans, spans)
def test_interval_iou_is_the_share_of_sampled_instants(a: list, b: list) -> None:
    ours, theirs = ([Interval(s, s + d) for s, d in side] for side in (a, b))
    instants = np.arange(0, 16, 0.5) + 0.25  # ends are multiples of a half, so each half second is all in or all out
    inside_a, inside_b = (
        np.array([any(i.start < t < i.end for i in side) for t in instants], dtype=bool) for side in (ours, theirs)
    )
    union = (inside_a | inside_b).sum()
    expected = (inside_a & inside_b).sum() / union if union else 0.0
    assert interval_union_iou(ours, theirs) == pytest.approx(expected, abs=1e-12)


def test_interval_iou_of_itself_is_exactly_one() -> None:
    odd = [Interval(0.1, 0.3), Interval(0.7, 1.9), Interval(1.2, 2.6)]
    assert interval_union_iou(odd, odd[::-1]) == 1.0
    assert interval_union_iou(odd, []) == 0.0


corners = st.tuples(st.floats(-50, 50), st.floats(-50, 50), st.floats(0.1, 60), st.floats(0.1, 60)).map(
    lambda c: (c[0], c[1], c[0] + c[2], c[1] + c[3])
)


@given(st.lists(corners, min_size=1, max_size=6), st.lists(corners, min_size=1, max_size=6))
def test_box_iou_is_torchvisions(a: list, b: list) -> None:
    reference = torchvision_box_iou(torch.tensor(a, dtype=torch.float64), torch.tensor(b, dtype=torch.float64)).numpy()
    assert np.array([[box_iou(x, y) for y in b] for x in a]) == pytest.approx(reference, abs=1e-9)
    rows, columns = linear_sum_assignment(reference, maximize=True)
    assert match_boxes(a, b) == pytest.approx(reference[rows, columns].sum(), abs=1e-9)


@given(st.lists(corners, max_size=4), st.lists(corners, max_size=4))
def test_box_matching_is_the_best_of_all_assignments(a: list, b: list) -> None:
    short, long = sorted((a, b), key=len)
    best = max(
        sum(box_iou(x, y) for x, y in zip(short, chosen, strict=True))
        for chosen in itertools.permutations(long, len(short))
    )
    assert match_boxes(a, b) == pytest.approx(best, abs=1e-9)


def test_many_boxes_at_one_time_take_the_best_one() -> None:
    gold = [(0.0, 0.0, 10.0, 10.0)]
    crowd = [(float(i), 0.0, float(i) + 10.0, 10.0) for i in range(4000, -1, -1)]
    assert match_boxes(gold, crowd) == 1.0


def greedy_pairs(gold: list[float], predicted: list[float], gap: float) -> list[tuple[int, int]]:
    """The rule itself, step by step: of all free pairs in reach take the nearest, the earlier on ties."""
    pairs: list[tuple[int, int]] = []
    while True:
        free = [
            (round(abs(g - p), 9), g, p, i, j)
            for i, g in enumerate(gold)
            for j, p in enumerate(predicted)
            if abs(g - p) <= gap + 1e-9 and i not in {a for a, _ in pairs} and j not in {b for _, b in pairs}
        ]
        if not free:
            return sorted(pairs)
        pairs.append(min(free)[3:])


tenths = st.lists(st.integers(0, 60).map(lambda n: n / 10), unique=True, max_size=14).map(sorted)


@settings(max_examples=300, deadline=None)
@given(tenths, tenths)
def test_time_pairing_is_nearest_first(gold: list[float], predicted: list[float]) -> None:
    assert pair_times(gold, predicted) == greedy_pairs(gold, predicted, 0.5)
    assert pair_times(gold, list(gold)) == greedy_pairs(gold, gold, 0.5)


def test_time_pairing_by_hand() -> None:
    assert pair_times([1.0], [0.5, 1.5]) == [(0, 0)]  # equally near: the earlier
    assert pair_times([1.0, 2.0], [1.5]) == [(0, 0)]
    assert pair_times([1.5, 2.5], [1.0, 2.0, 3.0]) == [(0, 0), (1, 1)]  # rounding to seconds would merge these
    assert pair_times([1.0, 1.4], [1.3]) == [(1, 0)]  # nearest over the whole track, not in order
    assert pair_times([0.3], [0.8]) == [(0, 0)]  # 0.8 - 0.3 is a hair over 0.5
    assert pair_times([0.0], [0.51]) == []


def test_track_iou_by_hand() -> None:
    gold = Track((0.0, 1.0, 2.0, 3.0), ((0, 0, 10, 10), (0, 0, 10, 10), NOT_VISIBLE, (0, 0, 10, 10)))
    half = (0.0, 0.0, 10.0, 5.0)
    assert track_iou(Track((0.0, 1.2, 2.0), (half, (0, 0, 10, 10), half)), gold) == pytest.approx((0.5 + 1 + 0) / 3)
    assert track_iou(Track((0.0,), ((0, 0, 10, 10),)), gold) == pytest.approx(1 / 3)  # one perfect box of three
    crowd = Track((0.0,) * 4, ((0, 0, 10, 10), (0, 0, 1, 1), (0, 0, 2, 2), NOT_VISIBLE))
    assert track_iou(crowd, gold) == pytest.approx(1 / 3 / 3)  # three boxes where one is
    assert track_iou(None, gold) == 0.0
    assert track_iou(gold, Track((0.0,), (NOT_VISIBLE,))) is None
    assert visible_boxes(gold) == {0.0: [(0, 0, 10, 10)], 1.0: [(0, 0, 10, 10)], 3.0: [(0, 0, 10, 10)]}


def two_men() -> Track:
    return Track((0.0, 0.0), ((0, 0, 10, 10), (100, 0, 110, 10)))


def test_two_boxes_at_one_time_are_assigned_one_to_one() -> None:
    swapped = Track((0.0, 0.0), ((100, 0, 110, 10), (0, 0, 10, 10)))
    assert track_iou(swapped, two_men()) == 1.0
    assert track_iou(Track((0.0,), ((0, 0, 10, 10),)), two_men()) == 0.5
    assert track_iou(Track((0.0, 0.0), ((0, 0, 10, 10),) * 2), two_men()) == 0.5


def brute_force(similarity: np.ndarray, equal: np.ndarray, tau: float) -> list[tuple[int, int]]:
    """All one-to-one assignments, the best by (pairs, similarity, equal names, order written)."""
    predicted, golds = similarity.shape
    best: tuple = ()
    chosen: list[tuple[int, int]] = []
    options = [[None, *(i for i in range(predicted) if similarity[i, j] >= tau - 1e-12)] for j in range(golds)]
    for picks in itertools.product(*options):
        used = [p for p in picks if p is not None]
        if len(set(used)) < len(used):
            continue
        pairs = [(p, j) for j, p in enumerate(picks) if p is not None]
        steps = sum(round(similarity[p, j] * STEPS) for p, j in pairs)
        order = [-predicted if p is None else -p for p in picks]
        rank = (len(pairs), steps, sum(bool(equal[p, j]) for p, j in pairs), order)
        if not best or rank > best:
            best, chosen = rank, pairs
    return chosen


@settings(max_examples=400, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 4))
def test_names_are_matched_by_all_four_aims_in_turn(seed: int, predicted: int, golds: int) -> None:
    draw = random.Random(seed)
    values = draw.choice([[0.0, 0.8, 1.0], [0.5, 0.75, 0.8, 0.85, 0.9, 1.0], [1.0, 0.0]])  # coarse, so that ties abound
    similarity = np.array([[draw.choice(values) for _ in range(golds)] for _ in range(predicted)])
    equal = (similarity == 1.0) & np.array([[draw.random() < 0.5 for _ in range(golds)] for _ in range(predicted)])
    assert assign_names(similarity, equal, 0.75) == brute_force(similarity, equal, 0.75)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(1, 7))
def test_the_assignment_is_scipys_on_plain_numbers(seed: int, rows: int, columns: int) -> None:
    worth = np.random.default_rng(seed).integers(0, 20, (rows, columns))
    ours = max_worth_assignment(worth.tolist())
    taken = [k for k in ours if k is not None]
    assert len(set(taken)) == len(taken)
    total = sum(worth[j, k] for j, k in enumerate(ours) if k is not None)
    assert total == worth[linear_sum_assignment(worth, maximize=True)].sum()


def test_more_pairs_win_over_a_better_pair() -> None:
    table = {("p0", "g0"): 1.0, ("p0", "g1"): 0.8, ("p1", "g0"): 0.8, ("p1", "g1"): 0.1}
    assert match_names(["p0", "p1"], ["g0", "g1"], lambda a, b: table[a, b], 0.75) == [(1, 0), (0, 1)]
    assert match_names(["p0", "p1"], ["g0", "g1"], lambda a, b: table[a, b], 0.81) == [(0, 0)]


def test_ten_thousand_names_against_three_keep_the_exact_answer() -> None:
    names = [f"n{i}" for i in range(10_000)]
    scores = {name: 0.76 + (i * 7919 % 10_000) / 50_000 for i, name in enumerate(names)}
    pairs = match_names(names, ["a", "b", "c"], lambda name, _: scores[name], 0.75)
    top = sorted(range(10_000), key=lambda i: -scores[names[i]])[:3]
    assert pairs == [(p, g) for g, p in enumerate(sorted(top))]  # equal sums: the order written decides


def test_empty_sides() -> None:
    assert match_names([], ["a"], lambda a, b: 1.0, 0.75) == []
    assert match_names(["a"], [], lambda a, b: 1.0, 0.75) == []
