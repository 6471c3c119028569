"""The arguments that train and sft share, and eval in part: a recipe, overrides of its keys, where the run goes."""

from __future__ import annotations

import argparse

from avst.commands.completions import recipe_files, recipe_keys
from avst.config import Recipe, load_recipe


def add_recipe(parser: argparse.ArgumentParser) -> None:
    """RECIPE [key=value ...]."""
    recipe = parser.add_argument("recipe", metavar="RECIPE", help="a recipe file, such as recipes/quickstart.yaml")
    recipe.completer = recipe_files  # type: ignore[attr-defined]
    keys = parser.add_argument(
        "overrides",
        nargs="*",
        default=[],  # argparse would otherwise name it among what is required
        metavar="key=value",
        help="override a key of the recipe, such as grpo.learning_rate=1e-6",
    )
    keys.completer = recipe_keys  # type: ignore[attr-defined]


def add_recipe_arguments(parser: argparse.ArgumentParser) -> None:
    """RECIPE [key=value ...] --output-dir --seed --overwrite."""
    add_recipe(parser)
    parser.add_argument(
        "--output-dir", metavar="DIR", help="where the run is kept (default: the recipe's, runs/<name>)"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="seed of data order, sampling and initialisation")
    parser.add_argument(
        "--overwrite", action="store_true", help="delete the run that is in the output folder, and start afresh"
    )


def add_start(parser: argparse.ArgumentParser) -> None:
    """--model PATH: what to start from. `avst eval` calls the same thing --checkpoint, so both take either name."""
    parser.add_argument(
        "--model",
        "--checkpoint",
        dest="model",
        metavar="PATH",
        help="start from this checkpoint instead of the recipe's model.path",
    )


def add_resume(parser: argparse.ArgumentParser) -> None:
    """--resume [CHECKPOINT] --allow-changes."""
    parser.add_argument(
        "--resume",
        nargs="?",
        const="latest",
        metavar="CHECKPOINT",
        help="go on from a checkpoint of the run (default: its newest whole one)",
    )
    parser.add_argument(
        "--allow-changes",
        action="store_true",
        help="go on although recipe, data or number of processes are not those of the checkpoint",
    )


def recipe_from(args: argparse.Namespace) -> Recipe:
    """The recipe these arguments ask for. Raises AvstError."""
    return load_recipe(args.recipe, args.overrides, output_dir=args.output_dir, seed=args.seed)
