"""Which cells an ablation has: the full recipe, and what --drop and --set make of it, each with every seed.

A cell is one training run with its evaluation. One factor is changed at a time; with `grid`, all combinations are made.
Nothing here needs torch, so that cells can be listed at once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal

from avst.config import Recipe, load_recipe
from avst.config.yaml_file import parse_value
from avst.errors import AvstError
from avst.identity import EVALUATION, PER_RUN, trained
from avst.nearest import did_you_mean

FULL = "full"
START_CELL = "start"  # what --cell calls the evaluation of the untrained model
_WEIGHT = re.compile(r"rewards\.(?P<reward>[A-Za-z_]\w*)\.weight")


@dataclass(frozen=True)
class Variant:
    """One row of the table. overrides: key=value beyond those of the command line;  changed: the keys that are set, ()
    for the full recipe;  same_as: another row with the same recipe, which is then not run twice;  command: what trains
    its cells.

    Example: Variant("rewards.object.weight=0", ('rewards.object.weight={"spatial": 0}',), ("rewards.object.weight",))
    """

    name: str
    overrides: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    same_as: str | None = None
    command: Literal["train", "sft"] = "train"

    @property
    def folder(self) -> str:
        return re.sub(r"[^\w.=-]+", "_", self.name).strip("_")


@dataclass(frozen=True)
class Cell:
    """One variant with one seed. folder: its run, with cell.json, log.txt and eval/ in it."""

    variant: Variant
    seed: int
    folder: Path

    @property
    def name(self) -> str:
        return f"{self.variant.folder}/seed_{self.seed}"


@dataclass(frozen=True)
class Plan:
    """recipe_file, overrides: as on the command line;  recipe: the full one;  out: the folder of everything;
    launcher: words in place of the Python interpreter, such as ("accelerate", "launch"), () for none."""

    recipe_file: str
    overrides: tuple[str, ...]
    recipe: Recipe
    out: Path
    variants: tuple[Variant, ...]
    seeds: tuple[int, ...]
    launcher: tuple[str, ...] = field(default=())

    @property
    def cells(self) -> list[Cell]:
        """Seed by seed, so that a table of one seed is whole before the second begins."""
        own = [variant for variant in self.variants if variant.same_as is None]
        return [
            Cell(variant, seed, self.out / "cells" / variant.folder / f"seed_{seed}")
            for seed in self.seeds
            for variant in own
        ]

    def cell_recipe(self, cell: Cell) -> Recipe:
        return load_recipe(self.recipe_file, self.training_overrides(cell), output_dir=str(cell.folder), seed=cell.seed)

    def training_overrides(self, cell: Cell) -> list[str]:
        return [*self.overrides, *cell.variant.overrides]

    def evaluation_overrides(self, cell: Cell) -> list[str]:
        """All cells answer the same questions, so what a variant changes in `data` is for its training alone."""
        own = (one for one in cell.variant.overrides if one.partition("=")[0].partition(".")[0] != "data")
        return [*self.overrides, *own]


def make_plan(
    recipe_file: str | Path,
    overrides: Sequence[str] = (),
    drops: Sequence[str] = (),
    sets: Sequence[str] = (),
    seeds: str = "1",
    out: str | Path | None = None,
    grid: bool = False,
    launcher: Sequence[str] = (),
) -> Plan:
    """The plan of one command line. drops: names of rewards;  sets: "key=value,value,…";  seeds: how many, counted from
    the recipe's seed, or the seeds themselves ("7,8,11"). Raises AvstError; every cell's recipe has then been read."""
    recipe = load_recipe(recipe_file, overrides)
    factors = [[_dropped(recipe, name)] for name in dict.fromkeys(drops)]
    factors += [_levels(recipe, text) for text in sets]
    variants = [Variant(FULL), *(_combined(factors) if grid else (one for factor in factors for one in factor))]
    plan = Plan(
        str(recipe_file),
        tuple(overrides),
        recipe,
        Path(out) if out is not None else Path(f"{recipe.output_dir}-ablation"),
        (),
        _seeds(seeds, recipe.seed),
        tuple(launcher),
    )
    return replace(plan, variants=tuple(_told_apart(plan, variants)))


def _dropped(recipe: Recipe, name: str) -> Variant:
    if name not in recipe.rewards:
        raise AvstError(f"--drop {name}: the recipe has no such reward{did_you_mean(name, recipe.rewards)}")
    return Variant(f"without {name}", (f"rewards.{name}=null",), (f"rewards.{name}",))


def _levels(recipe: Recipe, text: str) -> list[Variant]:
    """One variant a value of --set KEY=VALUE,VALUE,…"""
    key, equals, rest = text.partition("=")
    key = key.strip()
    if not equals or not all(key.split(".")) or not rest.strip():
        raise AvstError(f"--set {text}: is not of the form key=value,value, such as rewards.object.weight=0,0.5,1")
    top = key.partition(".")[0]
    if top in (*PER_RUN, *EVALUATION) or key.startswith("data.eval"):
        instead = "--seeds" if top == "seed" else "key=value, for all cells alike"
        raise AvstError(f"--set {text}: {key} is the same for all cells of a table; give {instead}")
    values = parse_value(f"[{rest}]", f"--set {text}")
    if top == "rewards" and key.count(".") > 1 and (name := key.split(".")[1]) not in recipe.rewards:
        raise AvstError(f"--set {text}: the recipe has no reward {name!r}{did_you_mean(name, recipe.rewards)}")
    found = []
    for value in values:
        said = json.dumps(_weights(recipe, key, value))
        name = f"{key}={value if isinstance(value, str) else json.dumps(value)}"
        found.append(Variant(name, (f"{key}={said}",), (key,)))
    return found


def _weights(recipe: Recipe, key: str, value: Any) -> Any:
    """A plain number for a reward whose weight goes by task: that number for each task that it is paid for. A task of
    weight 0 keeps it, or a change of one weight would bring in rewards that the recipe leaves out."""
    match = _WEIGHT.fullmatch(key)
    known = recipe.rewards.get(match["reward"]) if match else None
    if known is None or not isinstance(known.weight, Mapping) or not isinstance(value, int | float):
        return value
    paid = {task: value for task, weight in known.weight.items() if weight}
    if not paid:
        raise AvstError(f"--set {key}: the recipe pays this reward for no task; name one, such as {key}.spatial=0.5")
    return paid


def _combined(factors: Sequence[Sequence[Variant]]) -> Iterator[Variant]:
    """All combinations of "as in the recipe" and the levels of each factor, but the full recipe itself."""
    for levels in product(*([None, *factor] for factor in factors)):
        chosen = [level for level in levels if level is not None]
        if not chosen or _contradicts(chosen):
            continue
        yield Variant(
            ", ".join(level.name for level in chosen),
            tuple(override for level in chosen for override in level.overrides),
            tuple(key for level in chosen for key in level.changed),
        )


def _contradicts(levels: Sequence[Variant]) -> bool:
    """A reward that is dropped has no weight to set."""
    keys = [key for level in levels for key in level.changed]
    return any(a != b and b.startswith(f"{a}.") for a in keys for b in keys)


def _told_apart(plan: Plan, variants: Sequence[Variant]) -> Iterator[Variant]:
    """The variants, those with an earlier one's recipe marked. Raises AvstError where a recipe is wrong."""
    seen: dict[str, str] = {}
    folders: dict[str, str] = {}
    for variant in variants:
        where = Cell(variant, plan.seeds[0], plan.out / variant.folder)
        try:
            recipe = plan.cell_recipe(where)
        except AvstError as error:
            raise AvstError(str(error) if variant.name == FULL else f"{variant.name}: {error}") from error
        key = json.dumps([variant.command, _numbers_alike(trained(recipe))], sort_keys=True)
        if key in seen:
            if variant.name != seen[key]:
                yield replace(variant, same_as=seen[key])
            continue
        seen[key] = variant.name
        if variant.folder.lower() in folders:  # not every file system tells upper from lower case
            raise AvstError(f"{variant.name} and {folders[variant.folder.lower()]} would be kept in one folder")
        folders[variant.folder.lower()] = variant.name
        yield variant


def _numbers_alike(value: Any) -> Any:
    """0 and 0.0 are the same setting."""
    if isinstance(value, Mapping):
        return {key: _numbers_alike(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_numbers_alike(item) for item in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _seeds(text: str, first: int) -> tuple[int, ...]:
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if "," not in text and numbers and numbers[0] >= 1:
        return tuple(range(first, first + numbers[0]))
    if not numbers or min(numbers) < 0 or len(set(numbers)) < len(numbers) or "," not in text:
        raise AvstError(f"--seeds {text}: expected how many (3), or different seeds with commas between them (7,8,11)")
    return tuple(numbers)
