"""avst ablate RECIPE: which part of a recipe is worth what. Cells are trained and evaluated, or gone on with."""

from __future__ import annotations

import argparse
import shlex
import signal
from pathlib import Path
from types import FrameType

from avst.ablation.commands import command_lines
from avst.ablation.plan import Plan, make_plan
from avst.commands.recipe_arguments import add_recipe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_recipe(parser)
    add = parser.add_argument
    add("--drop", action="append", default=[], metavar="REWARD", help="a cell without this reward; may be repeated")
    add(
        "--set",
        action="append",
        default=[],
        metavar="KEY=V,V,…",
        help="a cell for each value of a key of the recipe, such as rewards.object.weight=0,0.5,1; may be repeated",
    )
    add("--grid", action="store_true", help="all combinations, not one change at a time")
    add("--seeds", default="1", metavar="N", help="so many, from the recipe's seed on, or 7,8,11 (default %(default)s)")
    add("--out", type=Path, metavar="DIR", help="where cells and tables go (default: <output_dir>-ablation)")
    add(
        "--launcher",
        default="",
        metavar="WORDS",
        help='what starts each training and evaluation, such as "accelerate launch --config_file F"',
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--list", action="store_true", help="show the cells and how far they are; run nothing")
    what.add_argument("--commands", action="store_true", help="print a shell line a cell, and the line that gathers")
    what.add_argument("--cell", metavar="NAME", help="run this cell alone (a name of --list), and write no table")
    what.add_argument("--table-only", action="store_true", help="run nothing: the tables of what is finished")


def run(args: argparse.Namespace) -> int:
    """Exit status 1 where a cell failed, or was to be run and is not finished."""
    launcher = shlex.split(args.launcher)
    plan = make_plan(args.recipe, args.overrides, args.drop, args.set, args.seeds, args.out, args.grid, launcher)
    if args.list:
        _list(plan)
        return 0
    if args.commands:
        from avst.ablation.run import check_options

        check_options(plan)  # better said here than by every job of a cluster
        print("\n".join(command_lines(plan, args)))
        return 0
    from avst.ablation.run import run_all, run_one, show_tables

    signal.signal(signal.SIGTERM, _end)  # a queue's end of time: the cell's process is ended too, and can be resumed
    if args.cell is not None:
        return run_one(plan, args.cell)
    complete = True if args.table_only else run_all(plan)
    return 0 if show_tables(plan) and complete else 1


def _list(plan: Plan) -> None:
    from avst.ablation.cell import state

    for cell in plan.cells:
        overrides = " ".join(map(shlex.quote, cell.variant.overrides))
        print(f"{cell.name:44}  {state(cell).stage:18}  seed={cell.seed} {overrides}".rstrip())
    for variant in plan.variants:
        if variant.same_as is not None:
            print(f"{variant.folder:44}  the same as {variant.same_as}")
    print(f"{len(plan.cells)} cell{'s' if len(plan.cells) > 1 else ''} in {plan.out}")
    if len(plan.variants) == 1:
        print("the recipe as it is: --drop and --set add rows to compare it with")


def _end(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
