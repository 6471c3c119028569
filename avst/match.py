"""Overlap in time and in space, and who is compared with whom: one to one in names, times and boxes.

Shared by rewards and metrics; pure functions of plain values. Times in seconds, boxes in source pixels (any one space
does).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations
from operator import getitem

import numpy as np

from avst.assign import assign_names
from avst.types import NOT_VISIBLE, Answer, AnswerObject, Box, Interval, Track
from avst.word_vectors import WordVectors, normalise

MAX_TIME_GAP_S = 0.5  # a predicted box counts for an annotated second this near
SLACK = 1e-9  # rounding must not decide at a threshold
_FEW_BOXES, _MANY_BOXES = 4, 64  # from here on numpy is faster than a loop: against several boxes, against one


# ---- time -----------------------------------------------------------------------------------------------------------


def interval_union_iou(a: Sequence[Interval], b: Sequence[Interval]) -> float:
    """|∪a ∩ ∪b| / |∪a ∪ ∪b| (Eq. 4 for several intervals), 0 where one side has none."""
    left, right = _merged(a), _merged(b)
    i = j = 0
    common = 0.0
    while i < len(left) and j < len(right):
        common += max(0.0, min(left[i][1], right[j][1]) - max(left[i][0], right[j][0]))
        if left[i][1] < right[j][1]:
            i += 1
        else:
            j += 1
    whole = sum(e - s for s, e in left) + sum(e - s for s, e in right) - common
    return min(1.0, common / whole) if common > 0 else 0.0


def _merged(intervals: Sequence[Interval]) -> list[tuple[float, float]]:
    merged: list[tuple[float, float]] = []
    for start, end in sorted((i.start, i.end) for i in intervals):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def pair_times(
    gold: Sequence[float], predicted: Sequence[float], gap_s: float = MAX_TIME_GAP_S
) -> list[tuple[int, int]]:
    """One-to-one pairs (i_gold, i_predicted) of two ascending lists of distinct times, sorted by i_gold.

    Nearest first over the whole track, the earlier first on ties, at most `gap_s` apart. The work is gold's: only as
    many nearest predicted times are looked at as there are gold times near enough to take one away.
    """
    if gold == predicted:  # as in most answers to a question that names its seconds; each time is its own nearest
        return [(i, i) for i in range(len(gold))]
    reach = gap_s + SLACK
    candidates: list[tuple[float, int, int]] = []
    for g, time in enumerate(gold):
        first, last = bisect_left(predicted, time - reach), bisect_right(predicted, time + reach)
        if last - first > 1:
            rivals = bisect_right(gold, time + 2 * reach) - bisect_left(gold, time - 2 * reach)
            middle = bisect_left(predicted, time)
            first, last = max(first, middle - rivals), min(last, middle + rivals)
        candidates.extend((round(abs(predicted[p] - time), 9), g, p) for p in range(first, last))
    taken_gold: set[int] = set()
    taken_predicted: set[int] = set()
    pairs: list[tuple[int, int]] = []
    for _, g, p in sorted(candidates):
        if g not in taken_gold and p not in taken_predicted:
            taken_gold.add(g)
            taken_predicted.add(p)
            pairs.append((g, p))
    return sorted(pairs)


# ---- space ----------------------------------------------------------------------------------------------------------


def box_iou(a: Box, b: Box) -> float:
    """Intersection over union of two boxes (Eq. 5), 0 where they do not meet."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    common = width * height
    return min(1.0, common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common))


def match_boxes(gold: Sequence[Box], predicted: Sequence[Box]) -> float:
    """The greatest sum of IoUs over one-to-one pairs of boxes."""
    if not gold or not predicted:
        return 0.0
    short, long = (gold, predicted) if len(gold) <= len(predicted) else (predicted, gold)
    if len(long) == 1:
        return box_iou(gold[0], predicted[0])
    if len(long) < (_MANY_BOXES if len(short) == 1 else _FEW_BOXES):
        table = [[box_iou(a, b) for b in long] for a in short]
        return max(sum(map(getitem, table, chosen)) for chosen in permutations(range(len(long)), len(short)))
    ious = _box_ious(np.asarray(gold), np.asarray(predicted))
    if min(ious.shape) == 1:
        return float(ious.max())
    from scipy.optimize import linear_sum_assignment  # slow to import, and most answers have one box a time

    return float(ious[linear_sum_assignment(ious, maximize=True)].sum())


def _box_ious(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(n, 4), (m, 4) -> (n, m)."""
    size = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    common = size.clip(min=0).prod(axis=2)
    areas_a, areas_b = (a[:, 2:] - a[:, :2]).prod(axis=1), (b[:, 2:] - b[:, :2]).prod(axis=1)
    return np.minimum(1.0, common / (areas_a[:, None] + areas_b[None, :] - common))


def track_iou(predicted: Track | None, gold: Track) -> float | None:
    """Mean IoU over the gold track's visible times (Eq. 6); None where it has none; a time without a partner counts 0.

    At a paired time: the best assignment's summed IoU over the greater number of boxes, so that many boxes do not pay.
    """
    wanted = visible_boxes(gold)
    if not wanted:
        return None
    written = visible_boxes(predicted) if predicted is not None else {}
    gold_times, predicted_times = sorted(wanted), sorted(written)
    total = 0.0
    for g, p in pair_times(gold_times, predicted_times):
        ours, theirs = wanted[gold_times[g]], written[predicted_times[p]]
        total += match_boxes(ours, theirs) / max(len(ours), len(theirs))
    return min(1.0, total / len(wanted))


def visible_boxes(track: Track) -> dict[float, list[Box]]:
    """time -> its boxes; NOT_VISIBLE entries say nothing."""
    boxes: dict[float, list[Box]] = {}
    for time, box in zip(track.times_s, track.boxes_px, strict=True):
        if box != NOT_VISIBLE:
            boxes.setdefault(time, []).append(box)
    return boxes


# ---- names and whole answers ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NameMatch:
    """One predicted object taken for one gold object. Example: NameMatch(predicted=0, gold=1, similarity=0.81)."""

    predicted: int
    gold: int
    similarity: float


def match_names(
    predicted: Sequence[str], gold: Sequence[str], similarity: Callable[[str, str], float], tau: float
) -> list[tuple[int, int]]:
    """One-to-one pairs (i_predicted, i_gold) of similarity >= tau, sorted by i_gold; see avst.assign for "best".

    similarity: any function of two names. With WordVectors, `match_answers` does the same for many names at once.
    """
    if not predicted or not gold:
        return []
    table = {name: [similarity(name, other) for other in gold] for name in dict.fromkeys(predicted)}
    same = {name: [name.strip() != "" and normalise(name) == normalise(other) for other in gold] for name in table}
    return assign_names(np.array([table[n] for n in predicted]), np.array([same[n] for n in predicted]), tau)


def match_answers(predicted: Answer, gold: Answer, words: WordVectors) -> tuple[NameMatch, ...]:
    """Which predicted object stands for which gold object, sorted by gold. Remembered: several rewards ask for it."""
    return _match(tuple(o.name for o in predicted.objects), tuple(o.name for o in gold.objects), words)


@lru_cache(maxsize=128)
def _match(predicted: tuple[str, ...], gold: tuple[str, ...], words: WordVectors) -> tuple[NameMatch, ...]:
    if not predicted or not gold:
        return ()
    similarity, equal = words.similarities(predicted, gold)
    return tuple(NameMatch(p, g, float(similarity[p, g])) for p, g in assign_names(similarity, equal, words.tau))


def speakers_in_time(predicted: Answer, gold: Answer, matches: Sequence[NameMatch]) -> dict[int, AnswerObject]:
    """i_gold -> the predicted object whose intervals stand for it.

    Where there is only one gold object and it is unmatched, the first predicted object with an interval: the question
    named the object.
    """
    speakers = {m.gold: predicted.objects[m.predicted] for m in matches}
    if len(gold.objects) == 1 and not speakers:
        first = next((o for o in predicted.objects if o.intervals), None)
        return {} if first is None else {0: first}
    return speakers


def temporal_overlap(predicted: Answer, gold: Answer, matches: Sequence[NameMatch]) -> float | None:
    """Mean interval IoU over the gold objects that have an interval (nobody speaks for it: 0); None where none has."""
    speakers = speakers_in_time(predicted, gold, matches)
    ious = [
        interval_union_iou(speakers[j].intervals, wanted.intervals) if j in speakers else 0.0
        for j, wanted in enumerate(gold.objects)
        if wanted.intervals
    ]
    return sum(ious) / len(ious) if ious else None


def spatial_overlaps(predicted: Answer, gold: Answer, matches: Sequence[NameMatch]) -> dict[int, float]:
    """i_gold -> track IoU, for the gold objects with a visible time; 0 where unmatched."""
    speaker = {m.gold: predicted.objects[m.predicted].track for m in matches}
    ious = {j: track_iou(speaker.get(j), wanted.track) for j, wanted in enumerate(gold.objects)}
    return {j: iou for j, iou in ious.items() if iou is not None}
