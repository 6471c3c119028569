"""What the TAB key offers behind a command: recipe files, and the keys of a recipe as key=value.

Called by argcomplete (see avst completion) with the text typed so far. trl and transformers take seconds to import, so
their options are found as names in the source of their configuration classes, without importing them.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SECTIONS = {
    "grpo": ("trl/trainer/grpo_config.py", "trl/trainer/base_config.py", "transformers/training_args.py"),
    "sft": ("transformers/training_args.py",),
}


def recipe_files(prefix: str, **rest: Any) -> list[str]:
    """Recipes and folders below what was typed; recipes/ where nothing was."""
    folder = prefix.rpartition("/")[0]
    here = Path(folder or ("/" if prefix.startswith("/") else "."))
    if not here.is_dir():
        return []
    start = f"{folder}/" if "/" in prefix else ""
    found = [f"{start}{path.name}" for path in here.glob("*.y*ml")]
    found += [f"{start}{path.name}/" for path in here.iterdir() if path.is_dir() and not path.name.startswith(".")]
    return [name for name in found if name.startswith(prefix)]


def recipe_keys(prefix: str, **rest: Any) -> list[str]:
    """`media.fps=` and its like; behind the sign the values, where a key has a few of its own."""
    key, equals = prefix.partition("=")[:2]
    if equals:
        return [f"{key}={value}" for name, hint in keys() if name == key for value in values(hint)]
    return [f"{name}=" for name, _ in keys() if name.startswith(prefix)]


def keys() -> Iterator[tuple[str, Any]]:
    """Every dotted key of a recipe with its annotation (text for the options of trl and transformers)."""
    from avst.config import Recipe

    yield from _keys_of(Recipe, "")
    for section, files in SECTIONS.items():
        seen: set[str] = set()
        for file in files:
            for name, hint in _fields_in(file):
                if name not in seen:
                    seen.add(name)
                    yield f"{section}.{name}", hint


def _keys_of(cls: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        hint = hints[field.name]
        inner = next(
            (h for h in (hint, *typing.get_args(hint)) if isinstance(h, type) and dataclasses.is_dataclass(h)), None
        )
        if inner is not None:
            yield from _keys_of(inner, f"{prefix}{field.name}.")
        elif field.name not in ("places", "grpo", "sft"):
            yield f"{prefix}{field.name}", hint


def values(hint: Any) -> list[str]:
    """The words that an annotation allows. Example: values(bool) == ["true", "false"]."""
    if hint is bool or hint == "bool":
        return ["true", "false"]
    if typing.get_origin(hint) is typing.Literal:
        return [str(value) for value in typing.get_args(hint)]
    found = [value for member in typing.get_args(hint) for value in values(member)]
    return [*found, "null"] if type(None) in typing.get_args(hint) else found


def _fields_in(file: str) -> Iterator[tuple[str, str]]:
    """(name, annotation) of the annotated fields of the classes in a library's file."""
    package, _, rest = file.partition("/")
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return
    path = Path(next(iter(spec.submodule_search_locations))) / rest
    if not path.is_file():
        return
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name.endswith(("Config", "Arguments")):
            for item in node.body:
                if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                    yield item.target.id, ast.unparse(item.annotation)
