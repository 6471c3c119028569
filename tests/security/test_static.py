"""What the source may not say at all. Most of it is ruff's S (bandit) rules, which `make lint` runs; here is what they
do not know of, and that they are on."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from re import _constants as op
from re import _parser
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(path for room in ("avst", "rewards") for path in (ROOT / room).rglob("*.py"))

# file -> why its finding stands
ALLOWED = {
    "avst/hand_over.py": "pickles between this process and its own loader workers, through a pipe of theirs",
    "avst/scoring.py": "reads what it has just written: does an outcome survive the pipe between processes?",
    "avst/config/yaml_file.py": "patterns of a table above them",
    "avst/models/tiny_tokenizer.py": "wordings of a table above them, with names of another",
    "avst/scenes/questions.py": "wordings of a table above them, with names of synthetic things",
}
PATTERNS = {f"re.{way}" for way in ("compile", "match", "fullmatch", "search", "sub", "split", "findall", "finditer")}
ON_WITHOUT = ("S101", "S105", "S106", "S311", "S603", "S607")  # what pyproject.toml may leave out


def findings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, what) of each call that opens a pickle, runs code or reads a format string that is not written there."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and any(_name(base).endswith("Unpickler") for base in node.bases):
            yield node.lineno, "an Unpickler"
        if not isinstance(node, ast.Call):
            continue
        name, said = _name(node.func), {k.arg: k.value for k in node.keywords}
        if name in ("eval", "exec", "compile", "__import__"):
            yield node.lineno, name
        if re.fullmatch(r"(c?pickle|marshal|dill|joblib|cloudpickle)\.(load|loads|Unpickler)", name):
            yield node.lineno, name
        if name == "torch.load" and not _is(said.get("weights_only"), True):
            yield node.lineno, "torch.load without weights_only=True"
        if name in ("np.load", "numpy.load") and not _is(said.get("allow_pickle"), False):
            yield node.lineno, "np.load without allow_pickle=False"
        for key in ("trust_remote_code", "allow_pickle", "allow_all_kernels"):
            if key in said and not _harmless(said[key], key):
                yield node.lineno, f"{key} that is not off"
        if name.startswith("subprocess.") and "shell" in said:
            yield node.lineno, "a shell"
        if re.fullmatch(r"Auto\w+\.from_(pretrained|config)", name) and not _is(said.get("trust_remote_code"), False):
            yield node.lineno, f"{name} without trust_remote_code=False"
        if name.endswith((".KeyedVectors.load", "KeyedVectors.load", "Word2Vec.load", "read_pickle")):
            yield node.lineno, name
        if re.search(r"\b(extractall|unpack_archive)$", name):
            yield node.lineno, name
        if isinstance(node.func, ast.Attribute) and node.func.attr in ("format", "format_map"):
            if not _written_here(node.func.value):
                yield node.lineno, "a format string that is not written here"
        elif re.fullmatch(r"log\w*\.(debug|info|warning|error|exception|critical)", name) and len(node.args) > 1:
            if not _written_here(node.args[0]):
                yield node.lineno, "a log format that is not written here"
        elif name in PATTERNS and not _written_here(node.args[0]):
            yield node.lineno, "a pattern that is not written here"


def _name(node: ast.AST) -> str:
    """Dotted, as far as it is: "a().b" is "?.b"."""
    if isinstance(node, ast.Attribute):
        return f"{_name(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def _is(node: ast.AST | None, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def _written_here(node: ast.AST) -> bool:
    """A literal, or one made of the module's constants (in capitals, maybe behind _), maybe by "".join."""
    if isinstance(node, ast.Call):
        return _name(node.func) == "?.join" and all(map(_written_here, node.args))
    if isinstance(node, ast.Name):
        return re.fullmatch(r"_?[A-Z_]+", node.id) is not None
    if isinstance(node, ast.Attribute | ast.Subscript):
        return _written_here(node.value)
    return all(map(_written_here, ast.iter_child_nodes(node)))


def _harmless(node: ast.AST, key: str) -> bool:
    """Off, or for allow_pickle a recipe's own word handed on."""
    return _is(node, False) or (key == "allow_pickle" and _name(node).endswith("allow_pickle"))


def test_nothing_opens_pickles_or_runs_text() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {what}"
        for path in SOURCES
        if str(path.relative_to(ROOT)) not in ALLOWED
        for line, what in findings(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert found == []


def test_what_is_allowed_is_still_there() -> None:
    for name in ALLOWED:
        assert list(findings(ast.parse((ROOT / name).read_text(encoding="utf-8")))), f"{name}: nothing to allow"


@pytest.mark.parametrize(
    "line",
    [
        "eval(text)",
        "torch.load(file)",
        "torch.load(file, weights_only=False)",
        "np.load(file, allow_pickle=True)",
        "np.load(file)",
        "pickle.loads(data)",
        "class A(pickle.Unpickler): pass",
        "KeyedVectors.load(file)",
        "model_class(c).from_pretrained(p, trust_remote_code=True)",
        "AutoConfig.from_pretrained(p)",
        "subprocess.run(text, shell=True)",
        "archive.extractall(folder)",
        "text.format(self)",
        "logger.warning(text, self)",
        "re.sub(text, '', other)",
    ],
)
def test_each_of_them_is_found(line: str) -> None:
    assert list(findings(ast.parse(line)))


def test_ruff_looks_for_the_rest() -> None:
    """Shells, tar files, unsafe YAML, requests, XML, temporary names: its S rules are on, and stay on."""
    lint = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["ruff"]["lint"]
    assert "S" in lint["select"]
    assert {rule for rule in lint["ignore"] if rule.startswith("S")} <= set(ON_WITHOUT)
    left_out = {rule for name, rules in lint["per-file-ignores"].items() if name.startswith("avst/") for rule in rules}
    assert left_out == {"S108"}
    assert not [p for p in SOURCES if "noqa: S1" in (t := p.read_text(encoding="utf-8")) and "SIM1" not in t]


# ---- patterns ------------------------------------------------------------------------------------------------------


def nested(pattern: Any, inside: bool = False) -> bool:
    """Whether an endless repeat stands in an endless repeat, so that what is matched can be cut in exponentially many
    ways. A possessive repeat and an atomic group are cut in one."""
    for code, value in pattern:
        if code in (op.MAX_REPEAT, op.MIN_REPEAT):
            endless = value[1] is op.MAXREPEAT
            if (endless and inside and _wide(value[2])) or nested(value[2], inside or endless):
                return True
        elif code is op.POSSESSIVE_REPEAT:
            if nested(value[2], False):
                return True
        elif code is op.ATOMIC_GROUP:
            if nested(value, False):
                return True
        elif code is op.SUBPATTERN:
            if nested(value[-1], inside):
                return True
        elif code is op.BRANCH:
            if any(nested(branch, inside) for branch in value[1]):
                return True
        elif code in (op.ASSERT, op.ASSERT_NOT) and nested(value[1], False):
            return True
    return False


def _wide(pattern: Any) -> bool:
    return pattern.getwidth()[1] > 0


def patterns() -> Iterator[tuple[str, str]]:
    """(place, pattern) of all that avst and rewards compile: an f-string's parts are the module's own constants."""
    for path in SOURCES:
        place = str(path.relative_to(ROOT))
        tree = ast.parse(path.read_text(encoding="utf-8"))
        known: dict[str, Any] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                value = _text(node.value, known)
                if value is not None:
                    known[node.targets[0].id] = value
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and re.fullmatch(r"re\.[a-z]+", _name(node.func)) and node.args:
                text = _text(node.args[0], known)
                if text is not None:
                    yield f"{place}:{node.lineno}", text


def _text(node: ast.AST, known: dict[str, Any]) -> str | None:
    """The text of a literal, of an f-string of known names, and of their sums; None where it is something else."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.Name):
        return known.get(node.id)
    if isinstance(node, ast.FormattedValue):
        return _text(node.value, known)
    if isinstance(node, ast.JoinedStr):
        parts = [_text(part, known) for part in node.values]
        return None if None in parts else "".join(p for p in parts if p is not None)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = _text(node.left, known), _text(node.right, known)
        return None if left is None or right is None else left + right
    return None


def test_no_pattern_can_take_exponential_work() -> None:
    found = list(patterns())
    places = {place.rpartition(":")[0] for place, _ in found}
    assert {"avst/answer.py", "avst/secrets.py", "avst/watch/safe_text.py", "avst/model_card/markdown.py"} <= places
    assert [(place, text) for place, text in found if nested(_parser.parse(text))] == []


@pytest.mark.parametrize("text", ["(a+)+b", "(a*b?)*c", "(?:x|(?:y+z?)*)+", "(?=(a+)+b)c"])
def test_such_a_pattern_is_found(text: str) -> None:
    assert nested(_parser.parse(text))


@pytest.mark.parametrize("text", ["(a++)+b", "(?:(?>a+)b)+", "(?:ab)+c", "a{1,3}b+", r"\s*+x\s*+"])
def test_a_harmless_one_is_not(text: str) -> None:
    assert not nested(_parser.parse(text))
