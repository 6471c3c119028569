"""All that a report shows of its questions: which groups and evaluations answer each, of one or two runs.

A *set* is one way to have questions answered: the training of a run, or one evaluation. The page shows one set, or two
beside each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from avst.errors import AvstError
from avst.report.judging import Judge
from avst.report.questions import Known, load_questions, question_of
from avst.report.run import Evaluation, Run
from avst.types import Question, Space


@dataclass
class Group:
    """Raw answers of one set to one question. step: None for an evaluation;  skipped: why nothing was answered."""

    set: int
    step: int | None
    rows: list[dict[str, Any]]
    skipped: str | None = None


@dataclass
class Entry:
    """One question of the report with everything that answers it. videos_dir: where its video is looked for."""

    question: Question
    split: str
    run: int
    videos_dir: Path | None
    groups: list[Group] = field(default_factory=list)


@dataclass
class Material:
    """runs, with judges and questions in the same order;  sets: {"run", "kind", "name", "split"};  entries by key."""

    runs: list[Run]
    judges: list[Judge] = field(default_factory=list)
    known: list[Known] = field(default_factory=list)
    sets: list[dict[str, Any]] = field(default_factory=list)
    entries: dict[tuple[str, str, str], Entry] = field(default_factory=dict)
    evaluation_of: dict[int, Evaluation] = field(default_factory=dict)
    left_out: int = 0


def collect(
    runs: Sequence[Run],
    reasons: bool,
    most_groups: int,
    videos: Path | None = None,
    annotations: Sequence[Path] = (),
) -> Material:
    """Read everything but the videos. most_groups: of one question in one run's training; the first and the last are
    always among them."""
    material = Material(list(runs))
    for number, run in enumerate(runs):
        known = load_questions(run.recipe, annotations)
        material.judges.append(Judge(run.recipe, reasons))
        material.known.append(known)
        folder = videos if videos is not None else Path(run.recipe.data.videos) if run.recipe.data.videos else None
        _take_training(material, number, run, known, folder, most_groups)
        for evaluation in run.evaluations:
            _take_evaluation(material, number, evaluation, known, folder)
    if not material.entries and any(run.evaluations for run in runs):
        raise AvstError(
            f"{runs[0].path}: none of the questions answered are in the recipe's annotations; name them with "
            "--annotations"
        )
    return material


def _take_training(
    material: Material, number: int, run: Run, known: Known, videos: Path | None, most_groups: int
) -> None:
    index = len(material.sets)
    groups = 0
    for rows in run.groups():
        entry = _entry(material, number, question_of(known, rows), known, videos)
        entry.groups.append(Group(index, int(rows[0]["step"]), rows))
        groups += 1
        mine = [g for g in entry.groups if g.set == index]
        if len(mine) > 2 * most_groups:  # held down while reading: a long run has more than fits in memory
            material.left_out += _thin(entry, index, most_groups)
    for entry in material.entries.values():
        material.left_out += _thin(entry, index, most_groups)
    if groups:
        material.sets.append({"run": number, "kind": "training", "name": "training", "split": "train"})


def _thin(entry: Entry, index: int, most: int) -> int:
    """Keep `most` groups of a set, evenly spread from the first to the last; how many were dropped."""
    mine = [g for g in entry.groups if g.set == index]
    if len(mine) <= most:
        return 0
    kept = {round(i * (len(mine) - 1) / max(most - 1, 1)) for i in range(most)} if most > 1 else {len(mine) - 1}
    dropped = {id(g) for i, g in enumerate(mine) if i not in kept}
    entry.groups = [g for g in entry.groups if id(g) not in dropped]
    return len(dropped)


def _take_evaluation(
    material: Material, number: int, evaluation: Evaluation, known: Known, videos: Path | None
) -> None:
    index = len(material.sets)
    entered = False
    for question_id, answer in evaluation.answers.items():
        question = known.questions.get(question_id)
        if question is None:
            continue
        row = {"completion": answer.completion, "truncated": answer.truncated, "space": answer.space}
        rows = [row] if answer.completion is not None else []
        entry = _entry(material, number, question, known, videos)
        entry.groups.append(Group(index, None, rows, answer.skipped))
        entered = True
    if entered:
        material.sets.append({"run": number, "kind": "eval", "name": evaluation.name, "split": evaluation.split})
        material.evaluation_of[index] = evaluation


def _entry(material: Material, number: int, question: Question, known: Known, videos: Path | None) -> Entry:
    """Two runs share a question where it is the same to the letter."""
    key = (question.id, question.text, question.gold_text)
    entry = material.entries.get(key)
    if entry is None:
        entry = material.entries[key] = Entry(question, known.split_of[question.id], number, videos)
    return entry


def space_of(row: dict[str, Any]) -> Space | None:
    """The box space that a row says its answer is in: a Space (evaluations), or [width, height, model's width, model's
    height] (completions since 0.1); None for older completions."""
    said = row.get("space")
    if isinstance(said, Space):
        return said
    if isinstance(said, list) and len(said) == 4 and all(isinstance(v, int) and v > 0 for v in said):
        return Space((said[0], said[1]), (said[2], said[3]))
    return None


def in_order(entries: Iterable[Entry], most: int | None) -> list[Entry]:
    """Held-out questions first, each split in the order of its annotations."""
    ordered = sorted(entries, key=lambda e: e.split != "eval")
    return ordered[:most]
