"""What a report reads of a run: its recipe, its groups of completions, and the evaluations that belong to it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from avst.config import Recipe, load_recipe
from avst.errors import AvstError
from avst.eval_folder import EvalFolder, SavedAnswer
from avst.run_folder import RunFolder, read_completions

NEEDED = ("step", "question_id", "task", "completion")


@dataclass(frozen=True)
class Evaluation:
    """Greedy answers of one checkpoint. name: its row, the folder's name;  answers: question id -> answer;
    asked: how many questions the evaluation was asked, answered or not."""

    name: str
    split: str
    path: Path
    checkpoint: str
    asked: int
    answers: dict[str, SavedAnswer]


@dataclass
class Run:
    """One run to report. notes: what the page and the log say about what is missing."""

    name: str
    path: Path
    recipe: Recipe
    folder: RunFolder
    evaluations: list[Evaluation] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def groups(self) -> Iterator[list[dict[str, Any]]]:
        """The completions of one question at one step, group by group, in the order of the steps."""
        group: list[dict[str, Any]] = []
        for row in self._rows():
            if group and (row["step"], row["question_id"]) != (group[0]["step"], group[0]["question_id"]):
                yield group
                group = []
            group.append(row)
        if group:
            yield group

    def _rows(self) -> Iterator[dict[str, Any]]:
        """File by file; one that is damaged costs its own step alone."""
        for file in self.folder.completion_files():
            try:
                rows = read_completions(file)
            except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
                self._note(f"The answers in {file.name} are left out, they cannot be read: {error}")
                continue
            missing = [name for name in NEEDED if any(row.get(name) is None for row in rows)]
            if missing:
                self._note(f"The answers in {file.name} are left out: a row has no {missing[0]!r}")
                continue
            yield from rows

    def _note(self, words: str) -> None:
        if words not in self.notes:
            self.notes.append(words)


def open_run(path: str | Path, evaluations: Sequence[str | Path] = ()) -> Run:
    """The run at `path`, with the evaluations below it, beside it (see find_evaluations) and in the folders named.

    Raises AvstError where there is no run.
    """
    path = Path(path)
    if not path.is_dir():
        raise AvstError(f"{path}: {'is a file, not the folder of a run' if path.exists() else 'no such folder'}")
    if not (path / "run.json").is_file() or not (path / "recipe.yaml").is_file():
        inside = sorted(p.parent for p in path.glob("*/run.json"))
        hint = f"; did you mean {inside[-1]}?" if inside else ""
        raise AvstError(f"{path}: not a run of avst, there is no run.json and recipe.yaml in it{hint}")
    run = Run(path.resolve().name, path, load_recipe(path / "recipe.yaml"), RunFolder(path))
    folders = find_evaluations(path)
    for named in map(Path, evaluations):
        found = sorted(p.parent for p in named.rglob("eval.json")) if named.is_dir() else []
        if not found:
            raise AvstError(f"--eval {named}: no evaluation there, that is no folder with an eval.json")
        folders += [f for f in found if f.resolve() not in {g.resolve() for g in folders}]
    for folder in folders:
        if (evaluation := _evaluation(folder)) is None:
            run.notes.append(f"The evaluation in {folder} is left out: it has no answers, or its eval.json is damaged.")
        else:
            run.evaluations.append(evaluation)
    run.evaluations.sort(key=lambda e: _age(e, path))
    if not run.evaluations and not any((path / "completions").glob("step_*.parquet")):
        run.notes.append("This run kept no completions (grpo.log_completions) and has no evaluation.")
        if not (path / "metrics.jsonl").is_file():
            raise AvstError(f"{path}: nothing to report: no completions, no evaluation, no metrics")
    return run


def find_evaluations(run: Path) -> list[Path]:
    """Folders with an eval.json in <run>/eval, and in the `eval` beside the run where one of them is of its weights.

    The second is how `avst quickstart` and `avst eval --out` leave them: before and after stand side by side there.
    """
    found = sorted(p.parent for p in (run / "eval").rglob("eval.json"))
    beside = sorted(p.parent for p in (run.resolve().parent / "eval").rglob("eval.json"))
    if any(_is_within(_identity(folder).get("checkpoint", {}).get("path"), run) for folder in beside):
        found += beside
    return found


def _identity(folder: Path) -> dict[str, Any]:
    try:
        record = json.loads((folder / "eval.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    identity = record.get("identity") if isinstance(record, dict) else None
    if not isinstance(identity, dict):
        return {}
    parts = (identity.get("checkpoint", {}), identity.get("questions", {}))
    return identity if all(isinstance(part, dict) for part in parts) else {}


def _evaluation(folder: Path) -> Evaluation | None:
    identity = _identity(folder)
    answers = EvalFolder(folder).read()
    if not identity or not answers:
        return None
    number = identity.get("questions", {}).get("number")
    asked = number if isinstance(number, int) else len(answers)
    checkpoint = str(identity.get("checkpoint", {}).get("path", ""))
    return Evaluation(folder.name, str(identity.get("split", "eval")), folder, checkpoint, asked, answers)


def _is_within(checkpoint: object, run: Path) -> bool:
    """A checkpoint's path is as it was given to the command: relative ones are compared by their last parts too."""
    if not isinstance(checkpoint, str):
        return False
    here = run.resolve()
    return Path(checkpoint).resolve().is_relative_to(here) or Path(checkpoint).parts[-2:-1] == (here.name,)


def _age(evaluation: Evaluation, run: Path) -> tuple[bool, float, str]:
    """Other models first (what the run began from), then the run's checkpoints by step, its last weights at the end."""
    last = Path(evaluation.checkpoint).name
    step = last.rpartition("-")[2]
    number = float(step) if step.isdigit() else float("inf")
    return _is_within(evaluation.checkpoint, run), number, evaluation.name
