"""Question id -> Question: from the recipe's annotations, or rebuilt from what the completions say of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from avst.answer import parse_gold
from avst.config import Recipe
from avst.errors import AvstError
from avst.tasks.r_avst import load_annotations
from avst.types import TASKS, Question


@dataclass
class Known:
    """Questions by id;  split_of: id -> "train" or "eval";  notes: annotation files that could not be read."""

    questions: dict[str, Question] = field(default_factory=dict)
    split_of: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def split(self, name: str) -> list[Question]:
        return [q for q in self.questions.values() if self.split_of[q.id] == name]


def load_questions(recipe: Recipe, instead: Sequence[str | Path] = ()) -> Known:
    """All questions of the recipe's files, of its tasks. instead: files to take for those that have moved; a question
    of theirs belongs to the split whose file has the same name, else to "train"."""
    known = Known()
    by_name = {Path(p).name: p for p in instead}
    for split in ("eval", "train"):
        for file in getattr(recipe.data, split):
            chosen = by_name.pop(Path(file).name, file)
            if not Path(chosen).is_file():
                known.notes.append(f"The annotations {file} are not there (--annotations names where they are now).")
                continue
            _take(known, chosen, split, recipe)
    for other in by_name.values():
        _take(known, other, "train", recipe)
    return known


def _take(known: Known, file: str | Path, split: str, recipe: Recipe) -> None:
    for question in load_annotations(file):
        if question.task in recipe.data.tasks and question.id not in known.questions:
            known.questions[question.id] = question
            known.split_of[question.id] = split


def question_of(known: Known, group: Sequence[Mapping[str, Any]]) -> Question:
    """The question of a group of completions; one that no annotation holds is rebuilt from `prompt` and `gold`.

    Its duration is then the last annotated second, which only the timeline's length depends on.
    """
    row = group[0]
    found = known.questions.get(row["question_id"])
    if found is not None:
        return found
    if row["task"] not in TASKS:
        raise AvstError(f"{row['question_id']}: the completions say the task is {row['task']!r}, which is unknown")
    gold_text = row.get("gold") or ""
    gold = parse_gold(gold_text)
    ends = [i.end for o in gold.objects for i in o.intervals] + [t for o in gold.objects for t in o.track.times_s]
    question = Question(
        row["question_id"],
        row["task"],
        row.get("prompt") or "",
        str(row["question_id"]).split("/")[0],
        max(ends, default=0.0) + 1.0,
        gold,
        gold_text,
    )
    known.questions[question.id] = question
    known.split_of[question.id] = "train"
    return question


def evaluated(known: Known, recipe: Recipe, split: str, asked: int, answered: Iterable[str]) -> list[Question]:
    """The questions that an evaluation was about: those of the recipe's split where the number agrees, else those that
    have an answer."""
    whole = known.split(split)[: recipe.data.max_questions][: recipe.eval.max_questions]
    if len(whole) == asked:
        return whole
    ids = set(answered)
    return [q for q in known.questions.values() if q.id in ids]
