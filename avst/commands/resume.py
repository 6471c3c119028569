"""avst resume RUN: the run's own command, recipe and model, from its newest whole checkpoint."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from avst.errors import AvstError

COMMANDS = ("train", "sft")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_folder", type=Path, metavar="RUN", help="a run's folder")
    parser.add_argument("--from", dest="checkpoint", metavar="CHECKPOINT", help="this checkpoint, not the newest one")
    parser.add_argument(
        "--allow-changes",
        action="store_true",
        help="go on although data or number of processes are not those of the checkpoint",
    )


def run(args: argparse.Namespace) -> int:
    """A run without any checkpoint begins anew: it loses nothing by it. One that came to its end is left alone."""
    folder: Path = args.run_folder
    record = _record(folder)
    start = record["starts"][-1]
    if (folder / "final").is_dir() and args.checkpoint is None:
        print(f"{folder}: came to its end before; its weights are in {folder / 'final'}")
        return 0
    checkpoint = None if args.checkpoint is None else str(Path(args.checkpoint).resolve())
    here, run_folder = str(start.get("folder") or Path.cwd()), folder.resolve()
    try:
        os.chdir(here)  # the recipe's paths may be relative to where the run began
    except OSError as error:
        raise AvstError(f"{folder}: began in {here}, which cannot be entered: {error.strerror}") from error
    from avst.checkpoints import found_in
    from avst.config import load_recipe
    from avst.runs import run_grpo, run_sft

    recipe = load_recipe(run_folder / "recipe.yaml")
    if Path(recipe.output_dir).resolve() != run_folder:
        raise AvstError(f"{folder}: was written as {recipe.output_dir} and has moved: move it back to go on with it")
    begin = run_grpo if record["command"] == "train" else run_sft
    resume = checkpoint or ("latest" if found_in(run_folder) else None)
    if resume is None:
        print(f"{folder}: has no checkpoint and begins anew")
    begin(recipe, start.get("model"), resume=resume, allow_changes=args.allow_changes)
    return 0


def _record(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise AvstError(f"{folder}: no such run")
    try:
        record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        command, starts = record["command"], record["starts"]
        known = command in COMMANDS and isinstance(starts[-1], dict)
    except (OSError, ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
        raise AvstError(f"{folder}: is no run that can be read: {error}") from error
    if not known:
        raise AvstError(f"{folder}: was made by `avst {command}`, which has nothing to go on with")
    return dict(record)
