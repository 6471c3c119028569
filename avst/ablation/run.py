"""All cells one after the other on this machine, or one of them by name; then the tables."""

from __future__ import annotations

import time

from avst.ablation import table as ablation_table
from avst.ablation.cell import Say, State, check_identities, evaluation, known, run_cell, run_start, state
from avst.ablation.gather import write
from avst.ablation.plan import START_CELL, Plan
from avst.config import grpo_arguments
from avst.errors import AvstError
from avst.nearest import did_you_mean
from avst.progress import spelled


def run_all(plan: Plan) -> bool:
    """Whether all cells are finished now. A cell that fails ends no other; a recipe that is wrong ends all before the
    first begins. Raises AvstError."""
    identities = check_identities(plan)
    check_options(plan)
    complete = _said("untrained", run_start(plan, _saying("untrained")))
    for number, cell in enumerate(plan.cells, start=1):
        name = f"[{number}/{len(plan.cells)}] {cell.name}"
        if state(cell).stage == "finished" and known(cell).get("evaluated") == evaluation(plan):
            print(f"{name}: finished before", flush=True)
            continue
        began = time.monotonic()
        found = run_cell(plan, cell, identities[cell.name], _saying(name))
        complete &= _said(f"{name}, {spelled(time.monotonic() - began)}", found)
    return complete


def run_one(plan: Plan, name: str) -> int:
    """One cell, or the evaluation of the untrained model. Exit status 1 where it failed."""
    cells = {cell.name: cell for cell in plan.cells}
    if name not in (START_CELL, *cells):
        raise AvstError(f"--cell {name}: there is no such cell; --list names them{did_you_mean(name, cells)}")
    identities = check_identities(plan)
    if name == START_CELL:
        return 0 if _said("untrained", run_start(plan, _saying("untrained"))) else 1
    return 0 if _said(name, run_cell(plan, cells[name], identities[name], _saying(name))) else 1


def show_tables(plan: Plan) -> bool:
    """Write and print the table of each split. Whether no cell has failed."""
    check_identities(plan, weights=False)
    for split in plan.recipe.eval.splits:
        found, folder = write(plan, split)
        print(ablation_table.as_text(found))
        print(f"table.txt, table.csv, table.json and the plot effects.png in {folder}")
    return all(state(cell).stage != "failed" for cell in plan.cells)


def check_options(plan: Plan) -> None:
    """The names and types of TRL's options: a slip is better said now than by every cell. They are not put together
    here: cells may run on other machines than this one."""
    for cell in plan.cells:
        if cell.seed == plan.seeds[0]:
            grpo_arguments(plan.cell_recipe(cell))


def _saying(name: str) -> Say:
    return lambda words: print(f"{name}: {words}", flush=True)


def _said(name: str, found: State) -> bool:
    print(f"{name}: {found.stage}{f': {found.why}' if found.why else ''}", flush=True)
    return found.stage == "finished"
