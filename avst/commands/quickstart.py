"""avst quickstart: every part of avst on a tiny model."""

from __future__ import annotations

import argparse
from pathlib import Path

import avst
from avst.config import load_recipe
from avst.errors import AvstError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="override a key of the recipe")
    parser.add_argument("--out", type=Path, default=Path("runs/quickstart"), metavar="DIR", help="default %(default)s")
    parser.add_argument("--clips", type=int, default=350, metavar="N", help="how many are made (default %(default)s)")
    parser.add_argument("--recipe", type=Path, metavar="FILE", help="default: recipes/quickstart.yaml of the checkout")


def run(args: argparse.Namespace) -> int:
    recipe = args.recipe or Path(avst.__file__).resolve().parents[1] / "recipes" / "quickstart.yaml"
    if not recipe.is_file():
        raise AvstError(f"{recipe}: no such recipe; avst was not installed from a checkout, so name one with --recipe")
    loaded = load_recipe(recipe, args.overrides)
    from avst.quickstart import quickstart

    quickstart(loaded, args.out, args.clips)
    return 0
