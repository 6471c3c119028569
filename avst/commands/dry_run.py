"""avst dry-run RECIPE: questions through everything without training, and what the model is given of them."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

from avst.commands.recipe_arguments import add_recipe, add_start
from avst.config import Recipe, load_recipe
from avst.errors import AvstError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_recipe(parser)
    add_start(parser)
    add = parser.add_argument
    add("--split", choices=("train", "eval"), default="train", help="default %(default)s")
    add("--question", metavar="ID", help="the question to look at (default: the split's first)")
    add("--n", type=int, default=1, metavar="N", help="look at so many questions (default 1)")
    add("--out", type=Path, metavar="DIR", help="where the pictures go (default: <output_dir>-dry-run)")
    add("--measure", action="store_true", help="load the weights, and measure one forward and backward")


def run(args: argparse.Namespace) -> int:
    """0; 1 where a question has a problem, such as a gold answer that is too long or is not paid."""
    recipe = load_recipe(args.recipe, args.overrides)
    if args.n < 1:
        raise AvstError(f"--n wants at least 1, not {args.n}")
    out = args.out or Path(f"{recipe.output_dir}-dry-run")
    from avst import assemble
    from avst.plan.this_machine import this_machine
    from avst.plan.work import groups
    from avst.preview.estimate import estimate, measure
    from avst.preview.look import look_at
    from avst.preview.show import as_text, estimate_as_text, prompt_and_gold

    scorer = assemble.scorer(recipe)
    questions = chosen(assemble.questions(recipe, args.split), args.question, args.n)
    parts = (assemble.policy if args.measure else assemble.sketch)(recipe, args.model)
    source = assemble.source(recipe, parts.family)
    longest = groups(recipe)[2]
    looks = []
    for number, question in enumerate(questions):
        look = look_at(question, source.clip(question), parts, scorer, longest)
        looks.append(look)
        print(as_text(look, longest, draw(look, out)))
        if number == 0:
            print(prompt_and_gold(look))
    found = estimate(recipe, parts.model, [look.shape for look in looks], this_machine(0.2))
    measured = measure(recipe, parts.model, looks[0]) if args.measure else None
    print(estimate_as_text(found, measured))
    write_report(out, recipe, [look.as_json() for look in looks], {"estimate": found.as_json(), "measured": measured})
    return 1 if any(look.problems for look in looks) else 0


def chosen(questions: list[Any], wanted: str | None, n: int) -> list[Any]:
    """The question of that id, or the first n."""
    if wanted is not None:
        found = [question for question in questions if question.id == wanted]
        if not found:
            from avst.nearest import did_you_mean

            ids = [question.id for question in questions]
            raise AvstError(f"--question {wanted}: no such question{did_you_mean(wanted, ids)}")
        return found
    return questions[:n]


def draw(look: Any, out: Path) -> dict[str, str]:
    from avst.preview.pictures import contact_sheet, sound_sheet

    stem = re.sub(r"[^\w.-]", "_", look.question.id)
    try:
        return {
            "frames": str(contact_sheet(look, out / f"{stem}.frames.png")),
            "sound": str(sound_sheet(look, out / f"{stem}.sound.png")),
        }
    except OSError as error:
        raise AvstError(f"{out}: cannot be written: {error.strerror or error}; name another --out") from error


def write_report(out: Path, recipe: Recipe, looks: list[dict[str, Any]], cost: dict[str, Any]) -> None:
    """dry_run.json: all that was printed, for programs."""
    from avst.durable import write_atomically

    text = json.dumps({"recipe": recipe.name, "questions": looks, **cost}, indent=1, ensure_ascii=False)
    write_atomically(out / "dry_run.json", text + "\n")
