"""avst log RUN: the log lines of a run to TensorBoard, trackio or wandb."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import Any

from avst.config.yaml_file import read_yaml
from avst.errors import AvstError
from avst.run_folder import RunFolder
from avst.trackers import WRITERS, require, to_tensorboard


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("run_folder", type=Path, metavar="RUN", help="a run's folder, with its metrics.jsonl")
    add("--to", choices=tuple(WRITERS), default="tensorboard", help="default %(default)s")
    add("--dir", type=Path, metavar="DIR", help="tensorboard: where the events go (default: <RUN>/tensorboard)")
    add("--project", default="avst", metavar="P", help="trackio, wandb: default %(default)s")
    add("--name", metavar="N", help="trackio, wandb: of the run (default: its folder's name)")


def run(args: argparse.Namespace) -> int:
    require([args.to])
    folder = RunFolder(args.run_folder)
    rows = [row for row in folder.metrics() if isinstance(row.get("step"), int)]
    if not rows:
        raise AvstError(f"{args.run_folder}: there is no log of a run here (metrics.jsonl)")
    if args.to == "tensorboard":
        where = args.dir if args.dir is not None else args.run_folder / "tensorboard"
        to_tensorboard(rows, where)
        print(f"{len(rows)} log lines in {where}; tensorboard --logdir {shlex.quote(str(where))}")
        return 0
    name = args.name or args.run_folder.resolve().name
    WRITERS[args.to](rows, args.project, name, _config(args.run_folder / "recipe.yaml"))
    print(f"{len(rows)} log lines in the {args.to} project {args.project}, run {name}")
    return 0


def _config(file: Path) -> dict[str, Any]:
    """The run's recipe, without credentials (it is saved without them); {} where there is none."""
    try:
        return read_yaml(file)[0]
    except AvstError:
        return {}
