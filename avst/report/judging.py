"""Answers -> what the page shows of them: objects in source pixels, rewards with their reasons, IoU second by second.

Everything that is judged here is judged by the library's own functions (avst.scoring, avst.match, avst.metrics), so
that the page cannot disagree with the reward.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from avst.answer import map_boxes, parse
from avst.config import Recipe
from avst.errors import AvstError
from avst.match import match_answers, match_boxes, pair_times, speakers_in_time, visible_boxes
from avst.metrics import QuestionResult, measure
from avst.plugins import RewardSpec, load_specs
from avst.scoring import Score, Scorer
from avst.types import Answer, Question, Space, Track
from avst.word_vectors import WordVectors

SHOWN_OBJECTS = 60  # a degenerate answer may name sixty thousand
SHOWN_BOXES = 4000
SAME = 1e-6
REWARD_S = 30.0  # for one call of a reward function, where the recipe sets no deadline


class Judge:
    """Scores the answers of one run by its recipe's rewards.

    reasons: False keeps to what the run has written, and runs no reward function (a recipe may name any file).
    different: how many completions are worth something else today than when they were sampled.
    """

    def __init__(self, recipe: Recipe, reasons: bool = True) -> None:
        vectors = recipe.word_vectors
        self.notes: list[str] = []
        self.different = 0
        try:
            self.words = WordVectors.load(vectors.path, vectors.tau, vectors.mapped)
        except AvstError as error:
            self.notes.append(f"Names are compared by their spelling only: {error}")
            self.words = WordVectors()
        self.weights: dict[str, Any] = {name: reward.weight for name, reward in recipe.rewards.items()}
        self.scorer: Scorer | None = None
        if reasons:
            self.scorer = self._scorer(recipe)

    def _scorer(self, recipe: Recipe) -> Scorer | None:
        chosen = {name: {"use": entry.use, "weight": entry.weight} for name, entry in recipe.rewards.items()}
        try:
            specs: list[RewardSpec] = load_specs(chosen)
        except AvstError as error:
            self.notes.append(f"The reasons behind the rewards are missing: {error}")
            return None
        return Scorer(specs, self.words, "abstain", recipe.reward_deadline_s or REWARD_S)

    def answers(self, question: Question, texts: Sequence[str], spaces: Sequence[Space | None]) -> list[Answer]:
        """Parsed, boxes in source pixels; where a space is not known, boxes are left as written."""
        parsed = [parse(text, question.gold_names) for text in texts]
        return [a if space is None else map_boxes(a, space.to_source) for a, space in zip(parsed, spaces, strict=True)]

    def score(self, question: Question, texts: Sequence[str], answers: Sequence[Answer], space: Space | None) -> Any:
        """One Score an answer; None where nothing may be, or can be, computed."""
        if self.scorer is None or (space is None and question.task != "temporal"):
            return [None] * len(texts)
        columns = {} if space is None else {"frame_size": [space.source] * len(texts)}
        return self.scorer.score([question] * len(texts), texts, answers, columns=columns)

    def group(
        self, question: Question, rows: Sequence[Mapping[str, Any]], spaces: Sequence[Space | None]
    ) -> list[dict[str, Any]]:
        """The completions of one group, as the page gets them. rows: lines of completions/*.parquet, or for an
        evaluation {"completion", "truncated"}."""
        texts = [row["completion"] for row in rows]
        answers = self.answers(question, texts, spaces)
        scores = self.score(question, texts, answers, spaces[0] if spaces else None)
        return [
            self._one(question, row, answer, score, space is None)
            for row, answer, score, space in zip(rows, answers, scores, spaces, strict=True)
        ]

    def _one(
        self, question: Question, row: Mapping[str, Any], answer: Answer, score: Score | None, boxes_unknown: bool
    ) -> dict[str, Any]:
        kept = {k.removeprefix("reward_"): v for k, v in row.items() if k.startswith("reward_")}
        again: dict[str, float | None] = {}
        if score is not None and kept:
            again = {n: v for n, v in score.rewards.items() if n in kept and not _same(v, kept[n])}
            self.different += bool(again)
        rewards = kept or (dict(score.rewards) if score is not None else {})
        total = row.get("total", score.total if score is not None else None)
        shown = show_answer(question, answer, self.words, boxes_unknown and question.task != "temporal")
        return shown | {
            "text": row["completion"],
            "rewards": rewards,
            "again": again,
            "total": total,
            "advantage": row.get("advantage"),
            "truncated": bool(row.get("truncated")),
            "tokens": row.get("n_tokens"),
            "reasons": {} if score is None else {name: list(why) for name, why in score.reasons.items()},
        }

    def measure(self, question: Question, answer: Answer) -> QuestionResult:
        return measure(question, answer, self.words)


def _same(a: float | None, b: float | None) -> bool:
    return a is b if a is None or b is None else abs(a - b) <= SAME


def show_gold(question: Question) -> list[dict[str, Any]]:
    """[{name, intervals: [[start, end]], track: [[t, x1, y1, x2, y2]]}], seconds and source pixels."""
    return _objects(question.gold, False)


def show_answer(question: Question, answer: Answer, words: WordVectors, boxes_unknown: bool) -> dict[str, Any]:
    """{objects: as show_gold, each with `gold` (the gold object it is taken for by its name) and `speaks` (the one
    whose times it stands for), problems, seconds: [[gold, t, t predicted, IoU]], boxes_unknown}."""
    matches = match_answers(answer, question.gold, words)
    objects = _objects(answer, boxes_unknown)
    for m in matches:
        if m.predicted < len(objects):
            objects[m.predicted]["gold"] = m.gold
            objects[m.predicted]["similarity"] = round(m.similarity, 3)
    for j, speaker in speakers_in_time(answer, question.gold, matches).items():
        i = next((i for i, o in enumerate(answer.objects) if o is speaker), len(objects))
        if i < len(objects):
            objects[i]["speaks"] = j
    tracks = {m.gold: answer.objects[m.predicted].track for m in matches}
    seconds: list[list[Any]] = []
    if question.task != "temporal" and not boxes_unknown:
        for j, wanted in enumerate(question.gold.objects):
            seconds += [[j, *second] for second in seconds_of(tracks.get(j, Track()), wanted.track)]
    return {
        "objects": objects,
        "hidden_objects": max(0, len(answer.objects) - SHOWN_OBJECTS),
        "problems": dict(answer.problems),
        "seconds": seconds,
        "boxes_unknown": boxes_unknown,
    }


def seconds_of(predicted: Track, gold: Track) -> list[list[Any]]:
    """[gold time, predicted time or None, IoU] for each visible gold time: the terms of avst.match.track_iou's mean."""
    wanted, written = visible_boxes(gold), visible_boxes(predicted)
    gold_times, predicted_times = sorted(wanted), sorted(written)
    pairs = dict(pair_times(gold_times, predicted_times))
    rows: list[list[Any]] = []
    for g, time in enumerate(gold_times):
        if g not in pairs:
            rows.append([time, None, 0.0])
            continue
        at = predicted_times[pairs[g]]
        ours, theirs = wanted[time], written[at]
        rows.append([time, at, round(match_boxes(ours, theirs) / max(len(ours), len(theirs)), 4)])
    return rows


def _objects(answer: Answer, without_boxes: bool) -> list[dict[str, Any]]:
    shown = []
    left = SHOWN_BOXES
    for one in answer.objects[:SHOWN_OBJECTS]:
        entries = [] if without_boxes else list(zip(one.track.times_s, one.track.boxes_px, strict=True))[:left]
        left -= len(entries)
        shown.append(
            {
                "name": one.name,
                "intervals": [[i.start, i.end] for i in one.intervals[:SHOWN_BOXES]],
                "track": [[t, *(round(v, 2) for v in box)] for t, box in entries],
            }
        )
    return shown
