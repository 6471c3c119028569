"""The figures of the paper's tables 2 and 3: per question, then the mean over questions with its interval.

Letters: Q questions of one task, V their videos, F figures of that task, D bootstrap draws. Per-question values are in
[0, 1] or None where nothing is annotated to score; summaries are in percent. Names are matched as in the object reward.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from avst.match import interval_union_iou, match_names, track_iou
from avst.types import TASKS, Answer, Question, Task

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


class NameSimilarity(Protocol):
    """What is needed of avst.word_vectors.WordVectors."""

    @property
    def tau(self) -> float: ...

    def similarity(self, a: str, b: str, /) -> float: ...


@dataclass(frozen=True, slots=True)
class QuestionResult:
    """All that is known of one answer. Example: QuestionResult("abc/0/temporal/0", "temporal", "abc", tiou=0.5, first_tiou=0.5).

    tiou: mean over gold objects of the IoU of interval unions;  first_tiou: the same for the first predicted interval alone;
    viou: mean over gold objects with a visible time;  object_accuracy: share of gold names matched;  object_f1: 2·pairs/(names
    predicted + gold). rewards and problems are empty where only the figures were asked for.
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
    vectors: NameSimilarity,
    rewards: Mapping[str, float | None] | None = None,
) -> QuestionResult:
    """The figures of one answer, boxes in source pixels. A missing answer is Answer(): 0 wherever something is annotated."""
    names = [o.name for o in answer.objects]
    pairs = match_names(names, question.gold_names, vectors.similarity, vectors.tau)
    predicted_of = {i_gold: i_predicted for i_predicted, i_gold in pairs}
    tiou = first = viou = accuracy = f1 = None
    if question.task != "spatial":
        tiou = _tiou(question, answer, predicted_of)
        first = _first_tiou(question, answer, predicted_of)
    if question.task != "temporal":
        viou = _viou(question, answer, predicted_of)
    if question.task == "spatial" and question.gold_names:
        accuracy = len(pairs) / len(question.gold_names)
        f1 = 2 * len(pairs) / (len(names) + len(question.gold_names))
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


def _tiou(question: Question, answer: Answer, predicted_of: Mapping[int, int]) -> float | None:
    """Mean over gold objects with an interval; an unmatched one counts 0, except where it is the only gold object."""
    gold_objects = question.gold.objects
    ious: list[float] = []
    for i_gold, gold in enumerate(gold_objects):
        if not gold.intervals:
            continue
        speaker = predicted_of.get(i_gold)
        if speaker is None and len(gold_objects) == 1:
            speaker = _first_speaker(answer)  # the question named its object: a wrong name does not void the time
        ious.append(0.0 if speaker is None else interval_union_iou(answer.objects[speaker].intervals, gold.intervals))
    return sum(ious) / len(ious) if ious else None


def _first_tiou(question: Question, answer: Answer, predicted_of: Mapping[int, int]) -> float | None:
    """IoU of the first predicted interval alone with the gold object that its object was matched to.

    With one gold object (all of R-AVST) that is the gold object, whatever the name; with several an unmatched one counts 0.
    """
    gold_objects = question.gold.objects
    if not any(gold.intervals for gold in gold_objects):
        return None
    speaker = _first_speaker(answer)
    if speaker is None:
        return 0.0
    matched = [i_gold for i_gold, i_predicted in predicted_of.items() if i_predicted == speaker]
    if not matched and len(gold_objects) > 1:
        return 0.0
    target = gold_objects[0] if len(gold_objects) == 1 else gold_objects[matched[0]]
    return interval_union_iou(answer.objects[speaker].intervals[:1], target.intervals)


def _first_speaker(answer: Answer) -> int | None:
    """The first predicted object that has an interval."""
    return next((i for i, o in enumerate(answer.objects) if o.intervals), None)


def _viou(question: Question, answer: Answer, predicted_of: Mapping[int, int]) -> float | None:
    per_object: list[float] = []
    for i_gold, gold in enumerate(question.gold.objects):
        speaker = predicted_of.get(i_gold)
        iou = track_iou(None if speaker is None else answer.objects[speaker].track, gold.track)
        if iou is not None:  # None: the gold object is visible at no time
            per_object.append(iou)
    return sum(per_object) / len(per_object) if per_object else None


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

    Two calls with the same videos and seed draw the same videos, so the difference of their results is a paired bootstrap.
    A draw in which no question of a figure stands is NaN.
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
    return means


def interval95(draws: np.ndarray) -> list[float] | None:
    """[2.5%, 97.5%] of the draws (D,) that are a number; None where there is none."""
    known = draws[~np.isnan(draws)]
    if not known.size:
        return None
    low, high = np.percentile(known, [2.5, 97.5])
    return [float(low), float(high)]


def summarise(results: Iterable[QuestionResult], draws: int = DRAWS, seed: int = 0) -> dict[str, dict[str, Any]]:
    """{task: {n, figure: percent or None, n_of, left_out, ci95}} for all three tasks, also one without questions (n 0)."""
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
