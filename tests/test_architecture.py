"""The arrows of docs/architecture.md: who may know whom, and how large a room may be."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = sorted((ROOT / "avst").rglob("*.py"))
REWARDS = sorted((ROOT / "rewards").rglob("*.py"))
ALL = [*LIBRARY, *REWARDS, *sorted((ROOT / "tests").rglob("*.py")), *sorted((ROOT / "scripts").rglob("*.py"))]

# The models' own tensors: avst.prompt makes them, avst.models reads them, elsewhere media is one opaque mapping.
TENSORS = re.compile(
    r"\b(pixel_values(_videos)?|(image|video)_grid_thw|second_per_grids?(_ts)?|video_second_per_grid"
    r"|input_features|feature_attention_mask|audio_feature_lengths|use_audio_in_video)\b"
)
MAY_NAME_TENSORS = ("avst/prompt.py", "avst/models/")

# What a reward may use: the types, the answer, the matching; nothing that knows of models or training.
REWARDS_MAY_IMPORT = (
    *("avst.types", "avst.answer", "avst.match", "avst.assign"),
    *("avst.explain", "avst.trivial", "avst.word_vectors"),
)

# Pure tensor functions: no model, no trainer, no files.
PURE = {
    "avst.grpo": {"avst.grpo_losses", "avst.grpo_sampling", "avst.errors"},
    "avst.grpo_losses": {"avst.grpo", "avst.grpo_sampling", "avst.errors"},
    "avst.grpo_sampling": set(),
}


def name_of(path: Path) -> str:
    """Path -> dotted module name. Example: avst/models/__init__.py -> avst.models."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(tree: ast.AST, lazy: bool = True) -> Iterator[str]:
    """Dotted names that a module imports; without `lazy`, only those that run when the module is loaded."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module is not None
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        elif lazy or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from imports(node, lazy)


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def modules_of(names: Iterator[str], known: set[str]) -> set[str]:
    """`from a.b import c` is module a.b.c where there is one, else a.b."""
    return {name if name in known else name.rpartition(".")[0] for name in names}


def short(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_the_library_knows_no_reward_and_no_recipe() -> None:
    """It loads what a recipe names; recipes -> rewards -> avst."""
    above = ("rewards", "recipes", "scripts", "tests")
    found = [(short(p), name) for p in LIBRARY for name in imports(parsed(p)) if name.split(".")[0] in above]
    assert found == []


def test_a_reward_knows_answers_and_nothing_of_training() -> None:
    heavy = ("torch", "transformers", "trl", "accelerate", "peft")
    found = [
        (short(path), name)
        for path in REWARDS
        for name in imports(parsed(path))
        if name.split(".")[0] in heavy
        or (name.split(".")[0] == "avst" and not any(f"{name}.".startswith(f"{m}.") for m in REWARDS_MAY_IMPORT))
    ]
    assert found == []


def test_tensor_names_stay_with_prompt_and_models() -> None:
    found = [
        f"{short(path)}:{number}: {line.strip()}"
        for path in LIBRARY + REWARDS
        if not short(path).startswith(MAY_NAME_TENSORS)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if TENSORS.search(line)
    ]
    assert found == []


def test_no_module_imports_itself_by_way_of_others() -> None:
    known = {name_of(path) for path in LIBRARY}
    graph = {name_of(path): modules_of(imports(parsed(path), lazy=False), known) & known for path in LIBRARY}
    for name, needed in graph.items():
        needed -= {name, "avst"}  # avst/__init__.py holds the version and imports nothing
    assert {"avst.rollout", "avst.grpo", "avst.prompt"} <= graph["avst.trainer"]  # the graph is not empty
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_the_mathematics_is_pure() -> None:
    known = {name_of(path) for path in LIBRARY}
    for module, allowed in PURE.items():
        path = ROOT / f"{module.replace('.', '/')}.py"
        for name in modules_of(imports(parsed(path)), known):
            top = name.split(".")[0]
            assert top not in ("transformers", "trl", "accelerate", "peft"), f"{module} imports {name}"
            assert top != "avst" or name in allowed, f"{module} imports {name}"


def test_the_light_rooms_need_no_torch() -> None:
    """Answers, rewards, metrics and recipes can be used, and tested, where torch is not."""
    known = {name_of(path) for path in LIBRARY}
    graph = {name_of(path): modules_of(imports(parsed(path), lazy=False), known) for path in LIBRARY}
    for light in (
        "avst.cli",
        "avst.config",
        "avst.answer",
        "avst.match",
        "avst.scoring",
        "avst.metrics",
        "avst.tables",
    ):
        reached, waiting = set(), [light]
        while waiting:
            module = waiting.pop()
            if module not in reached:
                reached.add(module)
                waiting += graph.get(module, set())
        heavy = {name.split(".")[0] for name in reached} & {"torch", "transformers", "trl", "peft", "accelerate"}
        assert not heavy, f"{light} reaches {heavy}"


def test_rooms_are_small() -> None:
    lengths = {short(path): path.read_text(encoding="utf-8").count("\n") for path in ALL}
    assert {path: lines for path, lines in lengths.items() if lines > 350} == {}
    dumps = ("utils.py", "helpers.py", "common.py", "misc.py")
    assert [path for path in lengths if path.endswith(tuple(f"/{name}" for name in dumps))] == []


def test_functions_fit_a_screen() -> None:
    found = [
        f"{short(path)}: {node.name} has {node.end_lineno - node.lineno + 1} lines"
        for path in LIBRARY + REWARDS
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno >= 60
    ]
    assert found == []


def test_every_file_says_what_it_is() -> None:
    trees = {short(path): parsed(path) for path in LIBRARY + REWARDS}
    assert [path for path, tree in trees.items() if tree.body and not ast.get_docstring(tree)] == []


def test_the_repository_names_no_machine() -> None:
    """No document or script leads to a folder of one machine, or leaves work undone behind a mark."""
    marks = re.compile("TO" + r"DO|FIX" + r"ME|X" + r"XX|/(?:home|Users)/\w|/ro" + "ot/")
    texts = [
        path
        for pattern in ("*.md", "*.toml", "*.txt", "*.yaml", "Makefile", "docs/**/*.md", "recipes/**/*.yaml")
        for path in ROOT.glob(pattern)
    ]
    for path in [*ALL, *texts]:
        found = [line for line in path.read_text(encoding="utf-8").splitlines() if marks.search(line)]
        assert found == [], short(path)
