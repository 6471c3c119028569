"""avst sft RECIPE: supervised fine-tuning on the recipe's gold answers, with the options of its `sft` section."""

from __future__ import annotations

import argparse
from dataclasses import replace

from avst.commands.recipe_arguments import add_recipe_arguments, add_resume, add_start, recipe_from


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_recipe_arguments(parser)
    add_start(parser)
    add_resume(parser)


def run(args: argparse.Namespace) -> int:
    """Writes the run to <output_dir>-sft (or --output-dir), its last weights to <that>/final."""
    recipe = recipe_from(args)
    if args.output_dir is None:
        recipe = replace(recipe, output_dir=f"{recipe.output_dir}-sft")
    from avst.runs import run_sft

    run_sft(recipe, args.model, args.overwrite, args.resume, args.allow_changes)
    return 0
