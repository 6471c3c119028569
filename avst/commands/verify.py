"""avst verify RUN: which of its checkpoints are whole."""

from __future__ import annotations

import argparse
from pathlib import Path

from avst.checkpoints import SAVING, Checkpoint, found_in, problems
from avst.errors import AvstError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="RUN", help="a run's folder, or one checkpoint's")
    parser.add_argument("--sizes", action="store_true", help="compare sizes alone, read nothing")


def run(args: argparse.Namespace) -> int:
    """A line a checkpoint. 0 where a run can go on from its newest checkpoint, 1 where it cannot."""
    folder: Path = args.folder
    if not folder.is_dir():
        raise AvstError(f"{folder}: no such folder")
    if folder.name.startswith("checkpoint-"):
        found = [Checkpoint(0, folder, tuple(problems(folder, not args.sizes)))]
    else:
        found = found_in(folder, not args.sizes)
    if not found:
        raise AvstError(f"{folder}: has no checkpoints")
    for checkpoint in found:
        print(f"{checkpoint.path}: {'; '.join(checkpoint.problems) or 'whole'}")
    if (folder / SAVING).is_dir():
        print(f"{folder / SAVING}: was being written when its run ended; the next checkpoint replaces it")
    return 0 if found[-1].whole else 1
