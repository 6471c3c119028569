"""A recipe's `grpo` and `sft` sections -> keyword arguments, checked against the classes that take them.

The check needs trl or transformers, which take seconds to import, so it waits until a command needs it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Union, get_args, get_origin, get_type_hints

from avst.config.build import Builder
from avst.config.recipe import Recipe
from avst.errors import AvstError
from avst.nearest import did_you_mean

# Said elsewhere in a recipe: two places for one thing would sooner or later disagree.
SAID_ELSEWHERE = {
    "output_dir": "output_dir at the top of the recipe",
    "seed": "seed at the top of the recipe",
    "reward_weights": "rewards.<name>.weight",
    "model_init_kwargs": "the model section",
}


def grpo_arguments(recipe: Recipe, config_class: type | None = None) -> dict[str, Any]:
    """Keyword arguments for `config_class` (default: TRL's GRPOConfig), output_dir and seed included."""
    if config_class is None:
        from trl import GRPOConfig

        config_class = GRPOConfig
    return _arguments("grpo", recipe.grpo, recipe, config_class)


def sft_arguments(recipe: Recipe, config_class: type | None = None) -> dict[str, Any]:
    """The same for the `sft` section and transformers' TrainingArguments."""
    if config_class is None:
        from transformers import TrainingArguments

        config_class = TrainingArguments
    return _arguments("sft", recipe.sft, recipe, config_class)


def grpo_config(recipe: Recipe, config_class: type | None = None) -> Any:
    """The GRPOConfig of a recipe. What the class itself refuses becomes an AvstError of one line."""
    if config_class is None:
        from trl import GRPOConfig

        config_class = GRPOConfig
    return _constructed("grpo", grpo_arguments(recipe, config_class), recipe, config_class)


def sft_config(recipe: Recipe, config_class: type | None = None) -> Any:
    """The TrainingArguments of a recipe's `sft` section, likewise."""
    if config_class is None:
        from transformers import TrainingArguments

        config_class = TrainingArguments
    return _constructed("sft", sft_arguments(recipe, config_class), recipe, config_class)


def _constructed(section: str, arguments: dict[str, Any], recipe: Recipe, config_class: type) -> Any:
    try:
        return config_class(**arguments)
    except (ValueError, TypeError, ImportError) as error:
        place = Builder(recipe.places, recipe.name).place(section)
        raise AvstError(f"{place}: {section}: {' '.join(str(error).split())}") from error


def _arguments(section: str, values: Mapping[str, Any], recipe: Recipe, config_class: Any) -> dict[str, Any]:
    known = {f.name for f in fields(config_class) if f.init}
    hints = get_type_hints(config_class)
    builder = Builder(recipe.places, recipe.name)
    checked: dict[str, Any] = {}
    for name, value in values.items():
        dotted = f"{section}.{name}"
        if name in SAID_ELSEWHERE:
            raise AvstError(f"{builder.place(dotted)}: {dotted}: set {SAID_ELSEWHERE[name]} instead")
        if name not in known:
            raise AvstError(f'{builder.place(dotted)}: unknown key "{dotted}"{did_you_mean(name, known)}')
        checked[name] = builder.conform(value, hints[name], dotted) if _checkable(hints[name]) else value
    return {"output_dir": recipe.output_dir, "seed": recipe.seed, **checked}


def _checkable(hint: Any) -> bool:
    """Whether `conform` knows all of the hint; the libraries' own enums and classes are left to the libraries."""
    if get_origin(hint) is Union or type(hint).__name__ == "UnionType":
        return all(_checkable(member) for member in get_args(hint))
    return hint in (int, float, str, bool, type(None))
