"""An ablation as shell lines for a cluster: one a cell, in any order and on any machine that sees the folders; the last
gathers what they left."""

from __future__ import annotations

import argparse
import os
import shlex
import sys

from avst.ablation.plan import START_CELL, Plan


def command_lines(plan: Plan, args: argparse.Namespace) -> list[str]:
    """The lines, each whole by itself: folder, interpreter and all arguments. args: of `avst ablate`."""
    words = [sys.executable, "-m", "avst", "ablate", args.recipe, *args.overrides]
    words += [word for name in args.drop for word in ("--drop", name)]
    words += [word for text in args.set for word in ("--set", text)]
    words += ["--seeds", ",".join(map(str, plan.seeds)) if len(plan.seeds) > 1 else args.seeds]
    words += ["--grid"] if args.grid else []
    words += ["--out", str(plan.out)]
    words += ["--launcher", args.launcher] if args.launcher else []
    start = f"cd {shlex.quote(os.getcwd())} && {shlex.join(words)}"
    names = [START_CELL, *(cell.name for cell in plan.cells)]
    return [*(f"{start} --cell {shlex.quote(name)}" for name in names), f"{start} --table-only"]
