"""Completions -> scores.json: what `avst score` and `avst eval` share. It needs no model.

predictions.jsonl holds {"id", "completion"} a line. scores.json holds {"questions": [{id, task, rewards: {…, total},
problems, tiou, first_tiou, viou, object_accuracy}], "metrics": {task: …}, "unknown_ids": […], "missing": n}, where
"metrics" is what avst.metrics.summarise returns.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avst.answer import map_boxes, parse
from avst.errors import AvstError
from avst.metrics import QuestionResult, measure, summarise
from avst.scoring import Scorer
from avst.types import Answer, Question, Space


@dataclass(frozen=True, slots=True)
class Scores:
    """One result a question, in the questions' order.

    reasons: id -> reward -> why it is what it is;  unknown_ids: predictions that answer no question;
    missing: the number of questions that no prediction answers.
    """

    results: list[QuestionResult]
    reasons: dict[str, dict[str, list[str]]]
    unknown_ids: list[str]
    missing: int

    def as_json(self) -> dict[str, Any]:
        questions = [
            {
                "id": result.id,
                "task": result.task,
                "rewards": dict(result.rewards),
                "problems": dict(result.problems),
                "tiou": result.tiou,
                "first_tiou": result.first_tiou,
                "viou": result.viou,
                "object_accuracy": result.object_accuracy,
            }
            for result in self.results
        ]
        metrics = summarise(self.results)
        return {"questions": questions, "metrics": metrics, "unknown_ids": self.unknown_ids, "missing": self.missing}


def read_predictions(path: str | Path) -> dict[str, str]:
    """id -> completion, in the file's order; empty lines are passed over. AvstError names the line."""
    completions: dict[str, str] = {}
    line_of: dict[str, int] = {}
    for number, line in enumerate(_lines(Path(path)), start=1):
        if not line.strip():
            continue
        where = f"{path}: line {number}"
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise AvstError(f"{where}: broken JSON: {error}") from error
        if not isinstance(entry, dict):
            raise AvstError(f'{where}: must be an object with "id" and "completion"')
        for field in ("id", "completion"):
            if not isinstance(entry.get(field), str):
                raise AvstError(f'{where}: field "{field}": {"must be text" if field in entry else "is missing"}')
        if entry["id"] in line_of:
            first = line_of[entry["id"]]
            raise AvstError(f'{where}: field "id": {entry["id"]!r} stands in line {first} already; keep one of the two')
        line_of[entry["id"]] = number
        completions[entry["id"]] = entry["completion"]
    return completions


def _lines(path: Path) -> list[str]:
    try:
        return path.read_bytes().decode("utf-8-sig").split("\n")  # not splitlines: JSON text may hold U+2028
    except OSError as error:
        raise AvstError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise AvstError(f"{path}: is not UTF-8 text (byte {error.start})") from error


def score_completions(
    questions: Sequence[Question],
    completions: Mapping[str, str],
    scorer: Scorer,
    spaces: Mapping[str, Space] | None = None,
    frames_px: Mapping[str, tuple[float, float]] | None = None,
) -> Scores:
    """Score every question; one without a completion is scored as an empty text.

    spaces: video -> the space in which the model spoke of boxes; a video without one is in source pixels already.
    frames_px: video -> (width, height), handed to the rewards as the column frame_size where all are known.
    """
    texts = [completions.get(question.id, "") for question in questions]
    answers = [_read(text, q, spaces) for text, q in zip(texts, questions, strict=True)]
    columns = None
    if frames_px is not None and all(question.video in frames_px for question in questions):
        columns = {"frame_size": [frames_px[question.video] for question in questions]}
    scores = scorer.score(questions, texts, answers, columns=columns)
    results = [
        measure(question, answer, scorer.word_vectors, {**score.rewards, "total": score.total})
        for question, answer, score in zip(questions, answers, scores, strict=True)
    ]
    known = {question.id for question in questions}
    return Scores(
        results,
        {question.id: dict(score.reasons) for question, score in zip(questions, scores, strict=True)},
        [prediction for prediction in completions if prediction not in known],
        sum(question.id not in completions for question in questions),
    )


def _read(text: str, question: Question, spaces: Mapping[str, Space] | None) -> Answer:
    answer = parse(text, names=question.gold_names)
    space = spaces.get(question.video) if spaces is not None else None
    return answer if space is None else map_boxes(answer, space.to_source)
