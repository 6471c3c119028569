"""A recipe file, the recipes it extends and the command line's overrides -> Recipe.

Order, later wins: defaults, `extends: other.yaml` (beside the file), the file, `key=value` on the command line, flags.
Mappings merge key by key, everything else is replaced; a reward set to null is taken out. A variant inherits all but
the `name` (default: its own file's) and the `output_dir` (default: runs/<name>), so that it never writes into its
base's run.

A path in a recipe is looked for beside the file that says it, then in the working folder; on the command line, in the
working folder only. What a run writes (output_dir, media.cache_dir, model.feature_cache) is in the working folder.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_type_hints

from avst.config.build import Builder
from avst.config.recipe import Recipe
from avst.config.yaml_file import Place, Places, Values, parse_value, read_yaml
from avst.errors import AvstError
from avst.plugins import DEFAULT_REWARDS
from avst.secrets import without_secrets

NOT_INHERITED = ("name", "output_dir")
_NAME = re.compile(r"[A-Za-z0-9_][\w.-]*")
_REWARD_NAME = re.compile(r"[A-Za-z_]\w*")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/")
_FILE_REFERENCE = re.compile(r"(?P<file>.+\.py):(?P<function>\w+)")


def load_recipe(
    path: str | Path, overrides: Sequence[str] = (), *, output_dir: str | None = None, seed: int | None = None
) -> Recipe:
    """The recipe at `path`, with `dotted.key=value` overrides and the flags of the same names applied.

    Raises AvstError in one line naming file, line and key.
    """
    path = Path(path)
    values, places = _read_with_bases(path)
    if "rewards" not in values:
        values["rewards"] = deepcopy(DEFAULT_REWARDS)
    for override in overrides:
        _apply_override(values, places, override)
    for key, value in (("output_dir", output_dir), ("seed", seed)):
        if value is not None:
            values[key], places[key] = value, Place(None)
    values.setdefault("name", path.stem)
    builder = Builder(places, str(path))
    _drop_null_rewards(values, builder)
    _resolve_paths(Recipe, values, places, "")
    _refuse_no_path(values.get("output_dir"), "output_dir", places)
    _resolve_reward_files(values, places)
    recipe = builder.build(Recipe, values)
    recipe = replace(recipe, output_dir=recipe.output_dir or f"runs/{recipe.name}", places=places)
    _check_together(recipe, builder)
    return recipe


def recipe_values(recipe: Recipe) -> dict[str, Any]:
    """The resolved recipe as plain values, ready for YAML; loading them gives an equal recipe."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: plain(item) for key, item in value.items()}
        return [plain(item) for item in value] if isinstance(value, list | tuple) else value

    values = asdict(replace(recipe, places={}))
    del values["places"]
    return plain(values)


def _read_with_bases(path: Path, above: tuple[Path, ...] = ()) -> tuple[Values, Places]:
    real = path.resolve()
    if real in above:
        raise AvstError(f"{path}: extends itself, by way of {above[-1].name}")
    values, places = read_yaml(path)
    values = {key: value for key, value in values.items() if value is not None}  # `media:` with nothing below it
    base = values.pop("extends", None)
    if base is None:
        return values, places
    if not isinstance(base, str):
        raise AvstError(f"{places['extends']}: extends is {base!r}, expected the name of a recipe file")
    base_path = path.parent / base
    if not base_path.is_file():
        raise AvstError(f"{places['extends']}: extends {base}: no such file beside this one")
    base_values, base_places = _read_with_bases(base_path, (*above, real))
    for key in NOT_INHERITED:
        base_values.pop(key, None)
    if "rewards" in values and "rewards" not in base_values:
        base_values["rewards"] = deepcopy(DEFAULT_REWARDS)
    return _merged(base_values, values), base_places | places


def _merged(below: Values, above: Values) -> Values:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _apply_override(values: Values, places: Places, override: str) -> None:
    key, equals, text = override.partition("=")
    key = key.strip()
    if not equals or not all(key.split(".")):
        raise AvstError(f'command line: "{override}" is not of the form key=value, such as grpo.learning_rate=1e-6')
    value = parse_value(text, f'command line: "{override}"')
    *parents, last = key.split(".")
    target = values
    for i, name in enumerate(parents):
        above = ".".join(parents[: i + 1])
        inner = target.get(name)
        if inner is None:
            inner = target[name] = {}
            places[above] = Place(None)
        if not isinstance(inner, dict):
            raise AvstError(f'command line: "{override}": {above} is {inner!r}, not a section')
        target = inner
    old = target.get(last)
    target[last] = _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    for known in [k for k in places if k.startswith(f"{key}.")]:
        del places[known]
    places[key] = Place(None)


def _drop_null_rewards(values: Values, builder: Builder) -> None:
    rewards = values["rewards"]
    if not isinstance(rewards, dict):
        return  # the builder says what is wrong
    for name in rewards:
        if not _REWARD_NAME.fullmatch(name) or name == "total":
            raise AvstError(
                f'{builder.place(f"rewards.{name}")}: "{name}" cannot be the name of a reward: it names columns and '
                "metrics, so letters, digits and _ only, and not total"
            )
    values["rewards"] = {name: spec for name, spec in rewards.items() if spec is not None}
    if not values["rewards"]:
        raise AvstError(f"{builder.place('rewards')}: rewards: no reward is left")


def _resolve_paths(cls: Any, values: Any, places: Places, prefix: str) -> None:
    """Replace what a `path` field says by where it is; the dataclasses say which fields are paths."""
    if not isinstance(values, dict):
        return
    for f in fields(cls):
        dotted = f"{prefix}{f.name}"
        if f.name not in values:
            continue
        if f.metadata.get("path"):
            said = values[f.name]
            folder = _folder(places, dotted)
            _refuse_no_path(said, dotted, places)
            if isinstance(said, list):
                values[f.name] = [_found(item, folder) for item in said]
            else:
                values[f.name] = _found(said, folder)
        elif dotted in _SECTIONS:
            _resolve_paths(_SECTIONS[dotted], values[f.name], places, f"{dotted}.")


_SECTIONS = {name: hint for name, hint in get_type_hints(Recipe).items() if is_dataclass(hint)}


def _resolve_reward_files(values: Values, places: Places) -> None:
    if not isinstance(values["rewards"], dict):
        return
    for name, spec in values["rewards"].items():
        use = spec.get("use") if isinstance(spec, dict) else None
        if isinstance(use, str) and (match := _FILE_REFERENCE.fullmatch(use)):
            file = _found(match["file"], _folder(places, f"rewards.{name}.use"))
            spec["use"] = (
                f"{file if os.path.isabs(file) else os.path.join('.', os.path.normpath(file))}:{match['function']}"
            )


def _folder(places: Places, dotted: str) -> Path | None:
    """The folder of the recipe that says `dotted`; None where the command line does."""
    while dotted not in places and "." in dotted:
        dotted = dotted.rpartition(".")[0]
    place = places.get(dotted, Place(None))
    return None if place.file is None else Path(place.file).parent


def _refuse_no_path(said: Any, dotted: str, places: Places) -> None:
    """Files are of this machine; only a model may be named to the Hub, as OWNER/NAME."""
    for item in said if isinstance(said, list) else [said]:
        if not isinstance(item, str):
            continue
        why = ""
        if _URL.match(item):
            why = "avst fetches nothing: download it, and name the file"
        elif any(unicodedata.category(c) in ("Cc", "Cs") for c in item):
            why = "it holds a control character"
        if why:
            place = places.get(dotted, Place(None))
            raise AvstError(f"{place}: {dotted} is {without_secrets(item)!r}: refused, {why}")


def _found(said: Any, folder: Path | None) -> Any:
    if not isinstance(said, str) or not said:
        return said
    path = os.path.expanduser(said)
    if folder is not None and not os.path.isabs(path) and (folder / path).exists():
        return os.path.normpath(folder / path)
    return path


def _check_together(recipe: Recipe, builder: Builder) -> None:
    media = recipe.media
    if not _NAME.fullmatch(recipe.name):
        raise AvstError(f'{builder.place("name")}: name is "{recipe.name}", expected letters, digits, "_", "-" and "."')
    if media.min_pixels is not None and media.max_pixels is not None and media.min_pixels > media.max_pixels:
        place = builder.place("media.min_pixels")
        raise AvstError(f"{place}: media.min_pixels is {media.min_pixels}, above media.max_pixels {media.max_pixels}")
    folders = {
        "media.cache_dir": media.cache_dir,
        "model.feature_cache": recipe.model.feature_cache,
        "model.path": recipe.model.path,
    }
    for key, said in folders.items():
        if said == "":
            raise AvstError(f"{builder.place(key)}: {key} is empty")
    if recipe.model.lora is not None and recipe.model.lora.target_modules == ():
        raise AvstError(f"{builder.place('model.lora.target_modules')}: model.lora.target_modules is empty")
