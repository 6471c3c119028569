"""docs/reliability.md names tests that exist, and every fault has one."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reliability.md"
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def rows() -> list[list[str]]:
    """fault, promised behaviour, test of each row of each table."""
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if not line.startswith("|---")]
    return [row for row in cells if row != ["fault", "promised behaviour", "test"]]


@cache
def functions(file: str) -> set[str]:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_fault_has_its_promise_and_its_test() -> None:
    assert len(rows()) > 50
    for row in rows():
        assert len(row) == 3, row
        assert all(row), row
        assert NAMED.search(row[2]), row[0]


def test_every_named_test_exists() -> None:
    for row in rows():
        for named in re.findall(r"`([^`]*)`", row[2]):
            found = NAMED.fullmatch(f"`{named}`")
            assert found, f"{row[0]}: {named} is no tests/….py::test_…"
            assert (ROOT / found[1]).is_file(), f"{row[0]}: {named}"
            assert found[2].startswith("test_"), f"{row[0]}: {named}"
            assert found[2] in functions(found[1]), f"{row[0]}: {named}"


def test_every_test_of_a_fault_is_named() -> None:
    named = set(NAMED.findall(PAGE.read_text(encoding="utf-8")))
    for file in sorted((ROOT / "tests" / "faults").glob("test_*.py")):
        path = file.relative_to(ROOT).as_posix()
        left = sorted(name for name in functions(path) if name.startswith("test_") and (path, name) not in named)
        assert not left, f"{path}: not in docs/reliability.md: {left}"
