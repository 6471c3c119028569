"""avst doctor [RECIPE]: versions, GPU, decoders, extras; what is missing, and the line that mends it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from avst.commands.completions import recipe_files, recipe_keys
from avst.doctor.check import Check, as_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    given = parser.add_argument("recipe", nargs="?", metavar="RECIPE", help="also look at all that a recipe names")
    given.completer = recipe_files  # type: ignore[attr-defined]
    keys = parser.add_argument("overrides", nargs="*", metavar="key=value", help="override a key of the recipe")
    keys.completer = recipe_keys  # type: ignore[attr-defined]
    parser.add_argument("--json", action="store_true", help="print the checks as JSON")


def run(args: argparse.Namespace) -> int:
    """0; 1 where something that is needed is broken."""
    checks = all_checks(args.recipe, args.overrides)
    if args.json:
        print(json.dumps(as_json(checks), indent=1, ensure_ascii=False))
    else:
        from avst.doctor.show import show

        show(checks)
    return 1 if any(check.state == "broken" for check in checks) else 0


@contextmanager
def _said(what: str) -> Iterator[None]:
    """What is being looked at, on a line of the terminal that is wiped again; nothing where there is no terminal."""
    shown = sys.stderr.isatty()
    words = f"looking at {what} …"
    if shown:
        print(words, end="\r", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        if shown:
            print(" " * len(words), end="\r", file=sys.stderr, flush=True)


def all_checks(recipe_file: str | None, overrides: list[str]) -> list[Check]:
    """Every check; a recipe that cannot be read is an AvstError, before anything slow begins."""
    recipe = None
    if recipe_file is not None:
        from avst.config import load_recipe

        recipe = load_recipe(recipe_file, overrides)
    from avst.doctor.machine import check_machine
    from avst.doctor.media import check_media
    from avst.doctor.packages import check_packages
    from avst.doctor.recipe import check_recipe, check_word_vectors

    media = recipe.media if recipe is not None else None
    checks: list[Check] = []
    parts: list[tuple[str, Callable[[], Iterable[Check]]]] = [
        ("packages", check_packages),
        ("machine", lambda: check_machine(media.cache_dir if media else None)),
        ("decoders", lambda: check_media(media.decoder if media else "pyav")),
        ("word vectors", lambda: [check_word_vectors(recipe)]),
    ]
    if recipe is not None:
        parts.append(("recipe", lambda: check_recipe(recipe)))
    for name, look in parts:  # packages are imported in processes of their own, which takes a minute on a slow disk
        with _said(name):
            checks += look()
    order = ("packages", "extras", "machine", "attention", "decoders", "recipe")
    return sorted(checks, key=lambda check: order.index(check.section))
