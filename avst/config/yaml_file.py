"""YAML text -> plain values, with the file and line of every key.

Safe YAML, read by the rules of YAML 1.2 where 1.1 surprises: `1e-6` is a number, `no` and `on` are text, `010` is no
octal, dates stay text. Keys are text and may not occur twice. Anchors work; a node inside itself does not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from avst.errors import AvstError

MAX_NODES = 100_000  # aliases of aliases can make a small file very large
# What a damaged or hostile text raises in the library: [[[[…, !!int abc, an integer of thousands of digits
_UNREADABLE = (RecursionError, ValueError, KeyError, TypeError)


@dataclass(frozen=True)
class Place:
    """Where a key was written. file None: on the command line. Example: str(Place("recipes/a.yaml", 3))."""

    file: str | None
    line: int = 0

    def __str__(self) -> str:
        return "command line" if self.file is None else f"{self.file}:{self.line}"


Values = dict[str, Any]
Places = dict[str, Place]
"""Dotted key -> place, for every key at every depth."""


class _Loader(yaml.SafeLoader):
    """Its resolvers are its own: those of YAML 1.1 are not inherited."""


_Loader.yaml_implicit_resolvers = {}

for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9][0-9_]*", list("-+0123456789")),
    (
        "float",
        r"[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan",
        list("-+0123456789."),
    ),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), _first)


_Loader.add_constructor("tag:yaml.org,2002:int", lambda _, node: int(node.value.replace("_", "")))


def read_yaml(path: Path) -> tuple[Values, Places]:
    """The mapping in the file. Raises AvstError naming file and line."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise AvstError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise AvstError(f"{path}: cannot be read: {error}") from error
    return parse_mapping(text, str(path))


def parse_mapping(text: str, file: str) -> tuple[Values, Places]:
    """The mapping in `text`; an empty text is an empty mapping."""
    loader = _loader(text, file)
    try:
        node = loader.get_single_node()
        if node is None:
            return {}, {}
        if not isinstance(node, yaml.MappingNode):
            raise AvstError(f"{file}:{node.start_mark.line + 1}: expected `key: value` lines")
        walk = _Walk(loader, file)
        return walk.mapping(node, ""), walk.places
    except (yaml.YAMLError, *_UNREADABLE) as error:
        raise AvstError(_yaml_message(error, file)) from error
    finally:
        loader.dispose()


def parse_value(text: str, what: str) -> Any:
    """One value, as the right side of `key=value`. what: names it in messages."""
    loader = _loader(text, what)
    try:
        node = loader.get_single_node()
        return None if node is None else _Walk(loader, what).value(node, "")
    except (yaml.YAMLError, *_UNREADABLE) as error:
        raise AvstError(_yaml_message(error, what)) from error
    finally:
        loader.dispose()


class _Walk:
    """Builds values from nodes, and notes where each key stands."""

    def __init__(self, loader: _Loader, file: str) -> None:
        self.loader, self.file = loader, file
        self.places: Places = {}
        self.open: set[int] = set()
        self.nodes = 0

    def value(self, node: yaml.Node, key: str) -> Any:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise AvstError(f"{self._place(node)}: more than {MAX_NODES} values")
        if isinstance(node, yaml.ScalarNode):
            return self.loader.construct_object(node)
        if id(node) in self.open:
            raise AvstError(f"{self._place(node)}: an alias that contains itself")
        if not node.tag.startswith("tag:yaml.org,2002:") or node.tag.rpartition(":")[2] not in ("map", "seq"):
            raise AvstError(f"{self._place(node)}: the tag {node.tag} is not read here")
        self.open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return self.mapping(node, key)
            return [self.value(item, f"{key}[{i}]") for i, item in enumerate(node.value)]
        finally:
            self.open.discard(id(node))

    def mapping(self, node: yaml.MappingNode, prefix: str) -> Values:
        self.open.add(id(node))
        found: Values = {}
        for key_node, value_node in node.value:
            name = self.loader.construct_object(key_node) if isinstance(key_node, yaml.ScalarNode) else None
            if not isinstance(name, str):
                raise AvstError(f"{self._place(key_node)}: a key must be text, found {key_node.value!r}")
            dotted = f"{prefix}.{name}" if prefix else name
            if name in found:
                raise AvstError(f"{self._place(key_node)}: {dotted} is written twice (first at {self.places[dotted]})")
            self.places[dotted] = self._place(key_node)
            found[name] = self.value(value_node, dotted)
        return found

    def _place(self, node: yaml.Node) -> Place:
        return Place(self.file, node.start_mark.line + 1)


def _loader(text: str, file: str) -> _Loader:
    try:
        return _Loader(text)
    except yaml.YAMLError as error:  # a character that no YAML may hold
        raise AvstError(_yaml_message(error, file)) from error


def _yaml_message(error: Exception, file: str) -> str:
    if isinstance(error, RecursionError):
        return f"{file}: not valid YAML: nested too deep"
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    return f"{file}{f':{mark.line + 1}' if mark is not None else ''}: not valid YAML: {problem}"
