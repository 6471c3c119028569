"""avst plan RECIPE --gpus 4xA6000: tokens, memory, seconds, hours, energy, money, and where the limit lies."""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

from avst.commands.recipe_arguments import add_recipe, add_start
from avst.config import Recipe, load_recipe
from avst.errors import AvstError
from avst.plan.choices import ENGINES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_recipe(parser)
    add_start(parser)
    add = parser.add_argument
    gpus = add("--gpus", metavar="CARDS", help="what to run on: A6000, 4xA6000, or hosts x cards as in 2x8xH100")
    gpus.completer = card_names  # type: ignore[attr-defined]
    add("--measure", action="store_true", help="plan for this machine, after measuring it for a second")
    add("--cards", type=Path, metavar="FILE", help="YAML with cards of your own (docs/scaling.md)")
    add("--engine", choices=ENGINES, help="default: ddp with LoRA, else zero2; none on one card")
    add("--network", type=_positive, default=100.0, metavar="GBIT", help="of a host, Gbit/s (default %(default)g)")
    add("--cores", type=_count, default=32, metavar="N", help="CPU cores of a host (default %(default)s)")
    work = parser.add_argument_group("what there is to do, where the recipe's data are not here")
    work.add_argument("--questions", type=_count, metavar="N", help="of the training set")
    work.add_argument("--clip", type=_clip, metavar="WxHxS", help="px and seconds of a clip, such as 1280x720x40")
    work.add_argument("--silent", action="store_true", help="clips without a sound track")
    work.add_argument("--answer-tokens", type=_positive, metavar="N", help="on average (default: the most allowed)")
    money = parser.add_argument_group("money")
    money.add_argument("--price", type=_price, metavar="P", help="of a card's hour")
    money.add_argument(
        "--prices", type=Path, metavar="FILE", help="YAML: prices of cards' hours by name, kwh, currency"
    )
    add("--json", nargs="?", const="-", metavar="FILE", help="all figures as JSON, on the screen or in a file")


def run(args: argparse.Namespace) -> int:
    """0; 1 where it does not fit."""
    recipe = load_recipe(args.recipe, args.overrides)
    prices = _prices_file(args)
    if args.measure == (args.gpus is not None):
        raise AvstError("avst plan wants either --gpus, such as --gpus 4xA6000, or --measure for this machine")
    machines = machines_of(args)  # before torch is imported: a card that is not known costs no time
    plan = planned(recipe, args, machines, prices)
    if args.json == "-":
        print(json.dumps(plan.as_json(), indent=1))
    else:
        from avst.plan.show import show

        show(plan)
        if args.json:
            from avst.durable import write_atomically

            try:
                write_atomically(Path(args.json), json.dumps(plan.as_json(), indent=1) + "\n")
            except OSError as error:
                raise AvstError(f"{args.json}: cannot be written: {error.strerror or error}") from error
    return 0 if plan.fits else 1


def machines_of(args: argparse.Namespace) -> Any:
    """The cards; with --measure those of this machine."""
    from avst.plan.cards import CARDS, Machines, parse_machines, read_cards

    more: dict[str, Any] = {"network_gb_s": args.network / 8, "cores": args.cores}
    if not args.measure:
        return parse_machines(args.gpus, CARDS | (read_cards(args.cards) if args.cards else {}), **more)
    from avst.plan.this_machine import this_machine

    if sys.stderr.isatty():
        print("measuring this machine …", file=sys.stderr)
    return Machines("this machine", this_machine(), 1, 1, **more)


def planned(recipe: Recipe, args: argparse.Namespace, machines: Any, prices: dict[str, Any]) -> Any:
    """The Plan of a recipe on `machines`, under the command's options."""
    from avst.plan.asked import asked_of
    from avst.plan.build import Prices, make_plan, read_prices
    from avst.plan.shape import shape_of, sketch
    from avst.plan.work import work_of

    model = sketch(recipe, args.model)
    shape = shape_of(model, recipe.model.lora)
    asked = asked_of(recipe, model, args)
    engine = args.engine or ("none" if machines.cards == 1 else "ddp" if shape.lora else "zero2")
    if engine == "none" and machines.cards > 1:
        raise AvstError(f"--engine none is for one card, {machines} are {machines.cards}: ddp, zero2, zero3 or fsdp2")
    chosen: Any = engine
    work = work_of(recipe, shape.itemsize, asked.prompt, asked.largest, args.answer_tokens, chosen)
    paid = read_prices(prices, machines.name, str(args.prices)) if prices and not args.measure else Prices()
    if args.price is not None:
        paid = Prices(args.price, paid.kwh, paid.currency)
    return make_plan(recipe, shape, work, asked, machines, paid, cpu=not machines.card.asynchronous)


def card_names(prefix: str, **rest: Any) -> list[str]:
    """For the TAB key: card names behind any `2x8x`."""
    from avst.plan.cards import CARDS

    numbers = re.match(r"(\d+x){0,2}", prefix)
    head = numbers[0] if numbers else ""
    return [head + name for name in CARDS if name.lower().startswith(prefix[len(head) :].lower())]


def _prices_file(args: argparse.Namespace) -> dict[str, Any]:
    if args.prices is None:
        return {}
    from avst.config.yaml_file import read_yaml

    return read_yaml(args.prices)[0]


def _number(text: str, what: str, least: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not least <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not {what}")
    return value


def _positive(text: str) -> float:
    return _number(text, "a number above 0", 1e-9)


def _price(text: str) -> float:
    return _number(text, "a price of at least 0", 0.0)


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _clip(text: str) -> tuple[int, int, float]:
    width, height, seconds = [*text.split("x"), "", ""][:3]
    if text.count("x") != 2:
        raise argparse.ArgumentTypeError(f"{text!r} is not WxHxS, such as 1280x720x40")
    return _count(width), _count(height), _positive(seconds)
