"""The tables before and after: one a split, its rows the evaluations of one run or of two."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from avst.answer import map_boxes, parse
from avst.metrics import QuestionResult
from avst.report import figures
from avst.report.collect import Material
from avst.report.questions import evaluated
from avst.report.run import Evaluation
from avst.types import Answer, Question, Space


def tables(material: Material) -> Iterator[dict[str, Any]]:
    """A table a split: the evaluations are the rows. Two runs stand in one table where they answered the same
    questions, else in one each; "run" is None or says which."""
    for split in dict.fromkeys(e.split for run in material.runs for e in run.evaluations):
        rows = [(i, e) for i, e in material.evaluation_of.items() if e.split == split]
        asked = {i: _asked(material, i, rows) for i, _ in rows}
        by_questions: dict[tuple[str, ...], list[int]] = {}
        for i, _ in rows:
            by_questions.setdefault(tuple(q.id for q in asked[i]), []).append(i)
        for together in by_questions.values():
            runs = {material.sets[i]["run"] for i in together}
            number = runs.pop() if len(runs) == 1 else None
            yield {"run": number, "split": split, **_table(material, together, asked[together[0]], number is None)}


def _asked(material: Material, index: int, rows: Sequence[tuple[int, Evaluation]]) -> list[Question]:
    """The questions of an evaluation; those of one run and split are one list, whatever is answered of it yet."""
    number = material.sets[index]["run"]
    mine = [e for i, e in rows if material.sets[i]["run"] == number]
    answered = [question_id for e in mine for question_id in e.answers]
    evaluation = material.evaluation_of[index]
    return evaluated(material.known[number], material.runs[number].recipe, evaluation.split, evaluation.asked, answered)


def _table(material: Material, sets: Sequence[int], questions: Sequence[Question], name_runs: bool) -> dict[str, Any]:
    results: dict[str, list[QuestionResult]] = {}
    spaces: dict[str, Space] = {}
    for index in sets:
        number, evaluation = material.sets[index]["run"], material.evaluation_of[index]
        name = f"{material.runs[number].name}: {evaluation.name}" if name_runs else evaluation.name
        spaces |= {q.video: a.space for q in questions if (a := evaluation.answers.get(q.id)) and a.space}
        results[name] = [_measured(material, number, q, evaluation) for q in questions]
    return figures.table(questions, results, spaces, material.judges[material.sets[sets[0]]["run"]].words)


def _measured(material: Material, number: int, question: Question, evaluation: Evaluation) -> QuestionResult:
    saved = evaluation.answers.get(question.id)
    answer = Answer()
    if saved is not None and saved.completion is not None and saved.space is not None:
        answer = map_boxes(parse(saved.completion, question.gold_names), saved.space.to_source)
    return material.judges[number].measure(question, answer)
