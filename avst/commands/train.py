"""avst train RECIPE: GRPO with the recipe's rewards."""

from __future__ import annotations

import argparse

from avst.commands.recipe_arguments import add_recipe_arguments, add_resume, add_start, recipe_from


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_recipe_arguments(parser)
    add_start(parser)
    add_resume(parser)


def run(args: argparse.Namespace) -> int:
    """Writes the run to the recipe's output_dir (or --output-dir), its last weights to <that>/final."""
    recipe = recipe_from(args)
    from avst.runs import run_grpo

    run_grpo(recipe, args.model, args.overwrite, args.resume, args.allow_changes)
    return 0
