"""avst eval RECIPE: greedy answers for a split, and the tables of the paper."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from avst.commands.recipe_arguments import add_recipe
from avst.config import Recipe, load_recipe
from avst.errors import AvstError

_NAME = re.compile(r"[A-Za-z0-9_][\w.-]*")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_recipe(parser)
    add = parser.add_argument
    add(
        "--checkpoint",
        "--model",
        dest="checkpoint",
        action="append",
        default=[],
        metavar="[NAME=]PATH",
        help="what to evaluate (default: the recipe's model.path); give it several times for one table of all",
    )
    add("--split", choices=("train", "eval"), help="the questions to answer (default: the recipe's eval.splits)")
    add("--out", type=Path, metavar="DIR", help="where answers, scores and tables go (default: <output_dir>/eval)")
    add("--overwrite", action="store_true", help="delete another evaluation that is there, and start afresh")
    add("--retry-skipped", action="store_true", help="try again the clips that could not be read before")


def run(args: argparse.Namespace) -> int:
    """Answers are kept as they come: the same command goes on where it was stopped. Under torchrun or accelerate launch
    the processes share the questions, and the first prints."""
    recipe = load_recipe(args.recipe, args.overrides)
    checkpoints = named_checkpoints(args.checkpoint, recipe)
    out = args.out if args.out is not None else Path(recipe.output_dir) / "eval"
    from avst import tables
    from avst.evaluate import comparison_table, evaluate, split_questions, write_tables
    from avst.processes import processes

    for split in (args.split,) if args.split else recipe.eval.splits:
        folders = {name: out / split / name for name in checkpoints}
        questions, missing = split_questions(recipe, split), 0  # once: all models are asked the same
        for name, path in checkpoints.items():
            scores = evaluate(recipe, path, folders[name], name, split, args.overwrite, args.retry_skipped, questions)
            missing += scores["missing"]
        if processes().is_main_process:
            comparison = comparison_table(recipe, folders, split, questions)
            write_tables(comparison, out / split)
            print(tables.as_text(comparison))
            print(
                f"{sum(comparison.n_questions.values())} questions, {missing} without an answer; all in {out / split}"
            )
    return 0


def named_checkpoints(given: list[str], recipe: Recipe) -> dict[str, str | None]:
    """Row name -> checkpoint. One without a name of its own has its folder's (<run>/final has the run's)."""
    found: dict[str, str | None] = {}
    if not given:
        return {_row_name(recipe.model.path): None}
    for text in given:
        name, path = _named(text)
        if not _NAME.fullmatch(name):
            raise AvstError(f"--checkpoint {text}: {name!r} is no name for a row and a folder; give NAME=PATH")
        if name in found:
            raise AvstError(f"--checkpoint {text}: there are two checkpoints named {name!r}; give NAME=PATH")
        found[name] = path
    return found


def _named(text: str) -> tuple[str, str]:
    name, equals, path = text.partition("=")
    if equals and "/" not in name and not Path(text).exists():
        return name, path
    return _row_name(text), text


def _row_name(path: str) -> str:
    """Example: _row_name("runs/first/final") == "first"; _row_name("Qwen/Qwen2.5-VL-7B-Instruct") is its last part."""
    last = Path(path).name or Path(path).resolve().name
    above = Path(path).resolve().parent.name
    return above if last == "final" and above else last
