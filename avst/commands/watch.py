"""avst watch RUN: the curves and the newest answers of a run in the terminal."""

from __future__ import annotations

import argparse
from pathlib import Path

from avst.errors import AvstError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run_folder", type=Path, metavar="RUN", help="a run's folder; one that is not there yet is waited for"
    )
    parser.add_argument("--once", action="store_true", help="print what there is now, and end")
    parser.add_argument(
        "--every", type=_seconds, default=2.0, metavar="S", help="seconds between two looks (default %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Keys: n and p (or right and left) for another question of the step, q to end. No terminal: as --once.

    Exit status 1 where --once finds no run. Raises AvstError for what can never be one."""
    folder: Path = args.run_folder
    if folder.exists() and not folder.is_dir():
        raise AvstError(f"{folder}: is a file; a run is a folder")
    runs = sorted(path.parent for path in folder.glob("*/run.json")) if not (folder / "run.json").exists() else []
    if runs:
        raise AvstError(f"{folder}: holds runs and is none; did you mean {runs[-1]}?")
    from rich.console import Console

    from avst.watch.live import show_once, watch

    console = Console()
    if args.once or not console.is_terminal:
        show_once(folder, console)
        return 0 if (folder / "run.json").exists() else 1
    watch(folder, console, args.every)
    return 0


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.1 <= value <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0.1 to 3600")
    return value
