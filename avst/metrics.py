"""The figures of the paper's tables 2 and 3: per question, then the mean over questions with its interval.

Letters: Q questions of one task, V their videos, F figures of that task, D bootstrap draws. Per-question values are in
[0, 1] or None where nothing is annotated to score; summaries are in percent. Names are matched as in the object reward.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from avst.match import NameMatch, interval_union_iou, match_answers, spatial_overlaps, temporal_overlap
from avst.types import TASKS, Answer, Question, Task
from avst.word_vectors import WordVectors

TIME_FIGURES = ("m_tIoU", "R1@0.3", "R1@0.5", "R1@0.7")
OBJECT_FIGURES = ("object_accuracy", "object_f1")
BOX_FIGURES = ("m_vIoU", "AP@0.3", "AP@0.5")
FIGURES: dict[Task, tuple[str, ...]] = {
    "temporal": TIME_FIGURES,
    "spatial": OBJECT_FIGURES + BOX_FIGURES,
    "st": TIME_FIGURES + BOX_FIGURES,
}
_MEASURE_OF = {
    "m_tIoU": "tiou",
    "R1": "first_tiou",
    "m_vIoU": "viou",
    "AP": "viou",
    "object_accuracy": "object_accuracy",
    "object_f1": "object_f1",
}
SLACK = 1e-9  # an IoU that is 0.3 but for rounding counts as 0.3
DRAWS = 1000


@dataclass(frozen=True, slots=True)
class QuestionResult:
    """All that is known of one answer; None where the figure does not apply or nothing is annotated to score.

    tiou: mean over gold objects of the IoU of interval unions;  first_tiou: of the first predicted interval alone;
    viou: mean over gold objects with a visible time;  object_accuracy: share of gold names matched;
    object_f1: 2·pairs / (names predicted + gold).  rewards is empty where only the figures were asked for.

    Example: QuestionResult("abc/0/temporal/0", "temporal", "abc", tiou=0.5, first_tiou=0.5)
    """

    id: str
    task: Task
    video: str
    tiou: float | None = None
    first_tiou: float | None = None
    viou: float | None = None
    object_accuracy: float | None = None
    object_f1: float | None = None
    rewards: Mapping[str, float | None] = field(default_factory=dict)
    problems: Mapping[str, int] = field(default_factory=dict)


def measure(
    question: Question,
    answer: Answer,
    words: WordVectors,
    rewards: Mapping[str, float | None] | None = None,
) -> QuestionResult:
    """The figures of one answer, boxes in source pixels. A missing one is Answer(): 0 in every figure that applies."""
    matches = match_answers(answer, question.gold, words)
    n_gold = len(question.gold.objects)
    tiou = first = viou = accuracy = f1 = None
    if question.task != "spatial":
        tiou = temporal_overlap(answer, question.gold, matches)
        first = first_interval_iou(answer, question.gold, matches)
    if question.task != "temporal":
        ious = spatial_overlaps(answer, question.gold, matches)
        viou = sum(ious.values()) / len(ious) if ious else None
    if question.task == "spatial" and n_gold:
        accuracy = len(matches) / n_gold
        f1 = 2 * len(matches) / (len(answer.objects) + n_gold)
    return QuestionResult(
        question.id,
        question.task,
        question.video,
        tiou,
        first,
        viou,
        accuracy,
        f1,
        dict(rewards or {}),
        dict(answer.problems),
    )


def first_interval_iou(answer: Answer, gold: Answer, matches: Sequence[NameMatch]) -> float | None:
    """IoU of the first predicted interval alone with the gold object that its own object was matched to.

    With one gold object (all of R-AVST) it is that one, whatever the name; with several, an unmatched object counts 0.
    """
    if not any(wanted.intervals for wanted in gold.objects):
        return None
    speaker = next((i for i, o in enumerate(answer.objects) if o.intervals), None)
    if speaker is None:
        return 0.0
    target = 0 if len(gold.objects) == 1 else next((m.gold for m in matches if m.predicted == speaker), None)
    if target is None:
        return 0.0
    return interval_union_iou(answer.objects[speaker].intervals[:1], gold.objects[target].intervals)


def figure_values(results: Sequence[QuestionResult], task: Task) -> np.ndarray:
    """(Q, F) percent, one column per FIGURES[task], NaN where a question is left out of a figure."""
    columns = []
    for figure in FIGURES[task]:
        kind, _, threshold = figure.partition("@")
        raw = [getattr(result, _MEASURE_OF[kind]) for result in results]
        values = np.array([np.nan if value is None else value for value in raw], dtype=float)
        if threshold:
            values = np.where(np.isnan(values), np.nan, values >= float(threshold) - SLACK)
        columns.append(100.0 * values)
    return np.stack(columns, axis=1)


def bootstrap_means(values: np.ndarray, videos: Sequence[str], draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """(D, F) means over questions when whole videos are drawn with replacement; values (Q, F), NaN is left out.

    Two calls with the same videos and seed draw the same videos: the difference of their results is a paired bootstrap.
    A draw in which a figure has no question is NaN, and so are all draws of a figure with questions about one video
    alone: they say nothing of the spread between videos.
    """
    names, video_of = np.unique(np.asarray(videos, dtype=object).astype(str), return_inverse=True)
    n_videos, n_figures = len(names), values.shape[1]
    known = ~np.isnan(values)
    sums_VF = np.zeros((n_videos, n_figures))
    counts_VF = np.zeros((n_videos, n_figures))
    np.add.at(sums_VF, video_of, np.where(known, values, 0.0))
    np.add.at(counts_VF, video_of, known.astype(float))
    picks_DV = np.random.default_rng(seed).integers(0, n_videos, size=(draws, n_videos))
    cells = picks_DV + n_videos * np.arange(draws)[:, None]
    times_drawn_DV = np.bincount(cells.ravel(), minlength=draws * n_videos).reshape(draws, n_videos).astype(float)
    with np.errstate(invalid="ignore"):
        means: np.ndarray = (times_drawn_DV @ sums_VF) / (times_drawn_DV @ counts_VF)
    means[:, (counts_VF > 0).sum(axis=0) < 2] = np.nan
    return means


def interval95(draws: np.ndarray) -> list[float] | None:
    """[2.5%, 97.5%] of the draws (D,) that are a number; None where there is none."""
    known = draws[~np.isnan(draws)]
    if not known.size:
        return None
    low, high = np.percentile(known, [2.5, 97.5])
    return [float(low), float(high)]


def summarise(results: Iterable[QuestionResult], draws: int = DRAWS, seed: int = 0) -> dict[str, dict[str, Any]]:
    """{task: {n, figure: percent or None, n_of, left_out, ci95}} for all three tasks; n is 0 for one without any."""
    everything = list(results)
    return {task: _summarise_task([r for r in everything if r.task == task], task, draws, seed) for task in TASKS}


def _summarise_task(results: Sequence[QuestionResult], task: Task, draws: int, seed: int) -> dict[str, Any]:
    figures = FIGURES[task]
    summary: dict[str, Any] = {"n": len(results)}
    n_of, left_out, ci95 = {}, {}, {}
    values = figure_values(results, task)
    drawn = bootstrap_means(values, [r.video for r in results], draws, seed) if results else np.empty((0, len(figures)))
    for column, figure in enumerate(figures):
        known = values[~np.isnan(values[:, column]), column]
        summary[figure] = float(known.mean()) if known.size else None
        n_of[figure] = int(known.size)
        left_out[figure] = len(results) - int(known.size)
        ci95[figure] = interval95(drawn[:, column])
    return summary | {"n_of": n_of, "left_out": left_out, "ci95": ci95}
