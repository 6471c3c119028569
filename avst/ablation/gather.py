"""Cells -> tables: what is finished, what is not, and why."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from avst import tables
from avst.ablation import table as ablation_table
from avst.ablation.cell import ROW, START, State, evaluation, known, state
from avst.ablation.effects import effects
from avst.ablation.plan import FULL, Plan, Variant
from avst.ablation.plot import plot_effects
from avst.ablation.table import AblationTable, Row
from avst.durable import write_atomically
from avst.errors import AvstError
from avst.eval_folder import EvalFolder
from avst.evaluate import frame_sizes, results_of, spaces_of, split_questions
from avst.metrics import QuestionResult
from avst.types import Space
from avst.word_vectors import WordVectors

BySeed = dict[int, list[QuestionResult]]


def gather(plan: Plan, split: str) -> AblationTable:
    """The table of one split over all finished cells; the others are named with their state. Needs no model."""
    questions = split_questions(plan.recipe, split)
    vectors = plan.recipe.word_vectors
    words = WordVectors.load(vectors.path, vectors.tau, vectors.mapped)
    settings = evaluation(plan)
    states = {cell.name: state(cell) for cell in plan.cells}
    for cell in plan.cells:
        if states[cell.name].stage == "finished" and known(cell).get("evaluated") != settings:
            states[cell.name] = State("evaluated with other settings")
    spaces: dict[str, Space] = {}
    rows: dict[str, BySeed] = {variant.name: {} for variant in plan.variants}
    for cell in plan.cells:
        if states[cell.name].stage == "finished":
            saved = EvalFolder(cell.folder / "eval" / split / ROW).read()
            spaces |= spaces_of(questions, saved)
            rows[cell.variant.name][cell.seed] = results_of(questions, saved, words)
    for variant in plan.variants:
        if variant.same_as is not None:
            rows[variant.name] = rows[variant.same_as]
    saved = EvalFolder(plan.out / "start" / split / START).read()
    spaces |= spaces_of(questions, saved)
    start = {-1: results_of(questions, saved, words)} if all(q.id in saved for q in questions) else {}
    frames, notes = frame_sizes(plan.recipe, questions, spaces)
    trivials = tables.trivial_results(questions, words, frames)
    count = {task: sum(q.task == task for q in questions) for _, task, _ in tables.TABLES}
    return AblationTable(
        split, (*_rows(plan, rows, start, trivials, states),), count, (*_notes(plan, states, bool(start)), *notes)
    )


def _rows(
    plan: Plan,
    results: Mapping[str, BySeed],
    start: BySeed,
    trivials: Mapping[str, list[QuestionResult]],
    states: Mapping[str, State],
) -> list[Row]:
    full = results[FULL]
    rows = []
    for variant in plan.variants:
        kind = "full" if variant.name == FULL else "variant"
        own = results[variant.name]
        found = effects(own, None if kind == "full" else full) if own else {}
        rows.append(Row(variant.name, kind, found, _shortfall(plan, variant, states)))
    rows.append(Row("untrained", "start", effects(start, full) if start else {}, "" if start else "not evaluated"))
    for name, answers in trivials.items():
        measured = [figure for figure, answer in tables.TRIVIAL_OF.items() if answer == name]
        rows.append(Row(name, "trivial", effects({-1: answers}, full, measured) if answers else {}))
    return rows


def _shortfall(plan: Plan, variant: Variant, states: Mapping[str, State]) -> str:
    """Example: "1 of 3 seeds; failed: 2"."""
    if variant.same_as is not None:
        return f"the same as {variant.same_as}"
    stages = [states[cell.name].stage for cell in plan.cells if cell.variant == variant]
    done = stages.count("finished")
    if done == len(stages):
        return ""
    others = [f"{stage}: {stages.count(stage)}" for stage in dict.fromkeys(stages) if stage != "finished"]
    return "; ".join([f"{done} of {len(stages)} seeds", *others])


def _notes(plan: Plan, states: Mapping[str, State], start: bool) -> list[str]:
    notes = [f"seeds: {', '.join(map(str, plan.seeds))}; ± is the standard deviation over seeds (n - 1)"]
    if len(plan.variants) > 1:
        drawn = "videos" if len(plan.seeds) == 1 else "videos and seeds"
        alone = " (one seed: it knows nothing of the spread over seeds)" if len(plan.seeds) == 1 else ""
        notes.append(f"95%: paired bootstrap over {drawn} of the difference to the full recipe{alone}")
    notes.append(f"untrained: {plan.recipe.model.path}" + ("" if start else " (not evaluated)"))
    for name, found in states.items():
        if found.stage != "finished":
            notes.append(f"{name}: {found.stage}{f': {found.why}' if found.why else ''}")
    return notes


def write(plan: Plan, split: str) -> tuple[AblationTable, Path]:
    """Gather a split into <out>/<split>/: table.txt, table.csv, table.json, effects.png. Returns table and folder."""
    found = gather(plan, split)
    folder = plan.out / split
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / "table.txt", ablation_table.as_text(found))
        write_atomically(folder / "table.csv", ablation_table.as_csv(found))
        write_atomically(
            folder / "table.json", json.dumps(ablation_table.as_json(found), indent=1, ensure_ascii=False) + "\n"
        )
        if plot_effects(found, folder / "effects.png") is None:
            (folder / "effects.png").unlink(missing_ok=True)
    except OSError as error:
        raise AvstError(f"{folder}: the tables cannot be written: {error}") from error
    return found, folder
