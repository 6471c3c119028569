"""Plain values -> dataclasses, each value checked against its annotation.

Every complaint is one line: where the key was written, its dotted name, the value, what was expected.
"""

from __future__ import annotations

import math
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from avst.config.yaml_file import Place
from avst.errors import AvstError
from avst.nearest import did_you_mean

T = TypeVar("T")
_NAMES = {int: "a whole number", float: "a number", str: "text", bool: "true or false", type(None): "null"}


class Builder:
    """places: dotted key -> where it was written; a key that is missing takes its nearest parent's place."""

    def __init__(self, places: Mapping[str, Place], file: str) -> None:
        self.places, self.file = places, file

    def build(self, cls: type[T], values: Mapping[str, Any], prefix: str = "") -> T:
        """An instance of the dataclass `cls`. Raises AvstError for an unknown, missing or wrong key."""
        assert is_dataclass(cls)
        hints = get_type_hints(cls)
        known = {f.name: f for f in fields(cls) if f.name != "places"}
        for name in values:
            if name not in known:
                dotted = _join(prefix, name)
                raise AvstError(f'{self.place(dotted)}: unknown key "{dotted}"{did_you_mean(name, known)}')
        arguments: dict[str, Any] = {}
        for name, f in known.items():
            dotted = _join(prefix, name)
            if name in values:
                arguments[name] = self.conform(values[name], hints[name], dotted)
                self._check_bounds(arguments[name], f.metadata, dotted)
            elif f.default is MISSING and f.default_factory is MISSING:
                raise AvstError(f"{self.place(dotted)}: {dotted} is missing")
        return cls(**arguments)

    def conform(self, value: Any, hint: Any, dotted: str) -> Any:
        """`value` as `hint` wants it: lists become tuples, whole numbers may stand for numbers. Raises AvstError."""
        origin, arguments = get_origin(hint), get_args(hint)
        if hint is Any:
            return value
        if origin in (Union, types.UnionType):
            return self._conform_union(value, hint, dotted)
        if is_dataclass(hint) and isinstance(hint, type) and isinstance(value, Mapping):
            return self.build(hint, value, dotted)
        if origin is Literal and isinstance(value, str | int) and value in arguments:
            return value
        if origin is tuple:
            items = [value] if isinstance(value, str) else value  # `train: one.json` for a list of one
            if isinstance(items, list | tuple):
                return tuple(self.conform(item, arguments[0], f"{dotted}[{i}]") for i, item in enumerate(items))
        if isinstance(origin, type) and issubclass(origin, Mapping) and isinstance(value, Mapping):
            return self._conform_mapping(value, arguments, dotted)
        if hint is float and isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return float(value)
        if hint in (int, str, bool, type(None)) and type(value) is hint:
            return value
        raise AvstError(f"{self.place(dotted)}: {dotted} is {_shown(value)}, expected {describe(hint)}")

    def _conform_union(self, value: Any, hint: Any, dotted: str) -> Any:
        members = get_args(hint)
        if value is None and type(None) in members:
            return None
        if isinstance(value, Mapping):  # the complaint should be about the key inside, not about the mapping
            for member in members:
                if is_dataclass(member) or (isinstance(o := get_origin(member), type) and issubclass(o, Mapping)):
                    return self.conform(value, member, dotted)
        for member in members:
            try:
                return self.conform(value, member, dotted)
            except AvstError:
                continue
        raise AvstError(f"{self.place(dotted)}: {dotted} is {_shown(value)}, expected {describe(hint)}")

    def _conform_mapping(self, value: Mapping[str, Any], arguments: tuple[Any, ...], dotted: str) -> dict[str, Any]:
        key_hint, value_hint = arguments
        if get_origin(key_hint) is Literal:
            for key in value:
                if key not in get_args(key_hint):
                    inner = _join(dotted, key)
                    raise AvstError(
                        f'{self.place(inner)}: unknown key "{inner}"{did_you_mean(key, get_args(key_hint))}'
                    )
        found = {}
        for key, item in value.items():
            try:
                found[key] = self.conform(item, value_hint, _join(dotted, key))
            except AvstError as error:
                others = [other for other in value if other != key]
                if not str(error).endswith(" is missing"):  # a key that overrides one of another name has nothing else
                    raise
                raise AvstError(f"{error}{did_you_mean(str(key), others)}") from None
        return found

    def _check_bounds(self, value: Any, bounds: Mapping[str, Any], dotted: str) -> None:
        if not isinstance(value, int | float) or isinstance(value, bool):
            return
        for bound, words, holds in (
            ("least", "at least", lambda limit: value >= limit),
            ("above", "above", lambda limit: value > limit),
            ("most", "at most", lambda limit: value <= limit),
        ):
            if bound in bounds and not holds(bounds[bound]):
                raise AvstError(f"{self.place(dotted)}: {dotted} is {value}, expected {words} {bounds[bound]}")

    def place(self, dotted: str) -> Place | str:
        """Where `dotted` or the nearest key around it was written; else the file."""
        while dotted:
            if dotted in self.places:
                return self.places[dotted]
            dotted = dotted.rpartition("[" if dotted.endswith("]") else ".")[0]
        return self.file


def describe(hint: Any) -> str:
    """An annotation in words. Example: describe(float | None) == "a number or null"."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(describe(member) for member in arguments)
    if origin is Literal:
        return "one of " + ", ".join(f'"{choice}"' for choice in arguments)
    if origin is tuple:
        inner = describe(arguments[0])
        return f"a list, each {inner}" if inner.startswith(("one", "a ")) else f"a list of {inner}"
    if is_dataclass(hint) or (isinstance(origin, type) and issubclass(origin, Mapping)):
        return "a mapping"
    return _NAMES.get(hint, str(hint))


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return "a mapping"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
