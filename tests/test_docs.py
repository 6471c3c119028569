"""README.md, CONTRIBUTING.md and docs/ say what is true: marked blocks run, other commands parse, what is named exists.

A fenced block may follow one of these marks, each on a line of its own:

    <!-- run -->         bash or python: run in the page's own temporary folder, in the page's order
    <!-- run slow -->    the same, in the tests marked slow
    <!-- file: NAME -->  written to that file before what follows is run
    <!-- shows -->       each line of it was printed by the last block that was run
"""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
import shutil
import subprocess
import sys
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from avst import cli
from avst.config import Recipe, grpo_config, load_recipe, sft_config

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(
    r"(?:^[ ]*<!-- (?P<mark>[^>\n]+) -->\n)?^(?P<indent>[ ]*)```(?P<language>\w*)\n(?P<body>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
SHELLS = ("bash", "console")
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
FOREIGN_PROGRAMS = (".venv/bin/pre-commit", "pytest", "python", "sbatch")

ALIKE = ("try", "two")  # the runs of docs/training.md by one process and by two


@dataclass(frozen=True)
class Block:
    """One fenced block of a page. mark: "" where there is none."""

    page: str
    mark: str
    language: str
    body: str

    @property
    def commands(self) -> list[str]:
        """The command lines of a shell block, continued lines joined."""
        lines = self.body.replace("\\\n", " ").splitlines()
        if self.language == "console":
            lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


def blocks(page: Path) -> list[Block]:
    found = []
    for match in FENCE.finditer(page.read_text(encoding="utf-8")):
        indent = len(match["indent"])
        body = "".join(line[indent:] for line in match["body"].splitlines(keepends=True))
        found.append(Block(page.name, match["mark"] or "", match["language"], body))
    return found


def prose(page: Path) -> str:
    return COMMENT.sub("", FENCE.sub("", page.read_text(encoding="utf-8")))


def code_spans(page: Path) -> list[str]:
    return re.findall(r"`([^`\n]+)`", prose(page))


ALL_BLOCKS = [block for page in PAGES for block in blocks(page)]
COMMANDS = [(b.page, line) for b in ALL_BLOCKS if b.language in SHELLS for line in b.commands]


def test_the_pages_have_blocks_of_every_kind() -> None:
    """The patterns above find something; else all the rest would pass on empty lists."""
    marks = {block.mark.split(":")[0] for block in ALL_BLOCKS}
    assert {"run", "run slow", "file", "shows", ""} <= marks
    assert marks <= {"run", "run slow", "file", "shows", ""}
    assert len(COMMANDS) > 20
    n_fences = sum(page.read_text(encoding="utf-8").count("```") for page in PAGES)
    assert n_fences == 2 * len(ALL_BLOCKS)


# ---- what is marked runs ---------------------------------------------------------------------------------------------


def pages_to_run() -> Iterator[typing.Any]:
    for page in PAGES:
        marks = {block.mark for block in blocks(page)}
        if marks & {"run", "run slow"}:
            slow = [pytest.mark.slow] if "run slow" in marks else []
            yield pytest.param(page, id=page.stem, marks=slow)


@pytest.mark.parametrize("page", pages_to_run())
def test_marked_blocks_run(page: Path, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    shown = ""
    for block in blocks(page):
        kind, _, name = block.mark.partition(": ")
        if kind == "file":
            (tmp_path / name).write_text(block.body, encoding="utf-8")
        elif kind == "shows":
            missing = [line for line in block.body.splitlines() if line not in shown]
            assert not missing, f"{page.name}: not printed: {missing}\n{shown}"
        elif kind.startswith("run"):
            shown = run(block, tmp_path)
    if page.stem == "training":
        check_figures(page, tmp_path / "runs" / "try")
        check_processes(tmp_path / "runs")


def run(block: Block, folder: Path) -> str:
    """Runs a block with this interpreter's programs, offline; returns what it printed."""
    bin_folder = str(Path(sys.executable).parent)
    path = os.pathsep.join([bin_folder, os.environ.get("PATH", "")])
    environment = os.environ | {"PATH": path, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    environment.pop("PYTEST_ADDOPTS", None)
    script = block.body if block.language == "python" else "set -eu\n" + "\n".join(block.commands)
    program = [sys.executable, "-c"] if block.language == "python" else ["bash", "-c"]
    done = subprocess.run(
        [*program, script], cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, f"{block.page}:\n{block.body}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def check_figures(page: Path, run_folder: Path) -> None:
    """What "What is logged" explains is logged, and what is logged is explained."""
    from avst.run_folder import RunFolder

    rows = [row for row in RunFolder(run_folder).metrics() if "loss" in row]
    logged = set().union(*rows)
    section = page.read_text(encoding="utf-8").split("## What is logged")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]

    def figures_of(lines: list[str]) -> set[str]:
        names = {name for line in lines for name in re.findall(r"`([^`]+)`", line.split(" | ")[0])}
        return {name for name in names if re.fullmatch(r"[\w@/<>]+", name)}

    # "with `key`": logged where the recipe sets the key, which the page's own does not
    always = figures_of([line for line in lines if not line.split(" | ")[1].startswith("with `")])

    def pattern(figure: str) -> str:
        return "^" + figure.replace("<task>", "(temporal|spatial|st)").replace("<name>", r"\w+") + "$"

    assert len(always) > 20
    assert not [f for f in always if not any(re.match(pattern(f), name) for name in logged)]
    assert not [name for name in logged if not any(re.match(pattern(f), name) for f in figures_of(lines))]


def check_processes(runs: Path) -> None:
    """Two processes were one run: twice the questions a step, and each of them once."""
    from avst.run_folder import RunFolder

    asked = {name: [r["question_id"] for r in RunFolder(runs / name).completions() if r["step"] == 1] for name in ALIKE}
    alone, together = (set(ids) for ids in asked.values())
    assert (len(alone), len(together)) == (2, 4)
    assert all(len(ids) == 4 * len(set(ids)) for ids in asked.values())  # num_generations


# ---- the other commands parse ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("page", "line"), COMMANDS)
def test_commands_parse(page: str, line: str) -> None:
    words = shlex.split(line)
    program = words[0]
    if program == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        assert words[1] in targets
    elif program == "avst":
        check_avst(words[1:], page)
    elif program == "torchrun":
        check_torchrun(words[1:], page)
    elif words[:2] == ["accelerate", "launch"]:
        check_accelerate(words[2:], page)
    else:
        assert program in FOREIGN_PROGRAMS, f"{page}: what is {program}?"


def check_avst(words: list[str], page: str) -> None:
    """avst's own parser takes the line, and the recipe it names takes its overrides."""
    arguments = cli.parse(words)
    recipe = getattr(arguments, "recipe", None)
    if arguments.command == "quickstart":
        recipe = recipe or ROOT / "recipes" / "quickstart.yaml"
    if recipe is None or not (ROOT / recipe).is_file():
        written = {b.mark.removeprefix("file: ") for b in ALL_BLOCKS if b.page == page and b.mark.startswith("file")}
        assert recipe is None or str(recipe) in written, f"no recipe {recipe}"
        return
    # a reward's file is looked for when it is loaded, so the reader's own need not be there
    loaded = load_recipe(ROOT / recipe, getattr(arguments, "overrides", None) or [])
    grpo_config(dataclasses.replace(loaded, grpo={**loaded.grpo, "bf16": False, "use_cpu": True}))
    sft_config(dataclasses.replace(loaded, sft={**loaded.sft, "bf16": False, "use_cpu": True}))


def check_torchrun(words: list[str], page: str) -> None:
    from torch.distributed.run import get_args_parser

    arguments = get_args_parser().parse_args(words)
    assert arguments.module
    assert arguments.training_script == "avst"
    check_avst(arguments.training_script_args, page)


def check_accelerate(words: list[str], page: str) -> None:
    from accelerate.commands.launch import launch_command_parser

    arguments = launch_command_parser().parse_args(words)
    assert arguments.module
    assert arguments.training_script == "avst"
    assert (ROOT / arguments.config_file).is_file()
    check_avst(arguments.training_script_args, page)


# ---- what is named exists --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        assert file.is_file(), f"{page.name}: {target}"
        if anchor:
            titles = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
            assert anchor in anchors, f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_files_that_are_named_exist(page: Path) -> None:
    written = {b.mark.removeprefix("file: ") for b in blocks(page)}
    for span in code_spans(page):
        looks_like_one = re.fullmatch(r"\.?[\w./-]+", span) and (
            span.split("/")[0] in ("avst", "rewards", "recipes", "tests", "scripts", "docs", ".ci") and "/" in span
        )
        if looks_like_one and span not in written:
            assert (ROOT / span).exists(), f"{page.name}: {span}"
    for match in re.findall(r"\b(?:avst|rewards|recipes|tests|scripts)/[\w./-]+\.(?:py|yaml|md)\b", page.read_text()):
        assert (ROOT / match).is_file(), f"{page.name}: {match}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_modules_that_are_named_exist(page: Path) -> None:
    import importlib

    for span in code_spans(page):
        module, _, function = span.partition(":")
        if not re.fullmatch(r"(avst|rewards)(\.\w+)+(:\w+)?", span):
            continue
        if function:
            assert hasattr(importlib.import_module(module), function), f"{page.name}: {span}"
            continue
        parent, _, last = module.rpartition(".")
        try:
            importlib.import_module(module)
        except ModuleNotFoundError:
            assert hasattr(importlib.import_module(parent), last), f"{page.name}: {span}"


def test_the_map_names_every_room() -> None:
    """docs/architecture.md has each module of the library's top level."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rooms = text.split("## Rooms")[1].split("## Decisions")[0]
    for path in sorted((ROOT / "avst").iterdir()):
        if path.name.startswith("_") or path.suffix not in ("", ".py"):
            continue
        assert (f"{path.name}/" if path.is_dir() else path.name) in rooms, f"docs/architecture.md: {path.name}"
    for name in re.findall(r"[\w]+\.py\b", rooms.split("The arrows")[0]):
        assert (ROOT / "avst" / name).is_file(), f"docs/architecture.md: {name}"


def recipe_keys() -> set[str]:
    """Every dotted key that a recipe may have."""
    from transformers import TrainingArguments
    from trl import GRPOConfig

    keys = {f"grpo.{f.name}" for f in dataclasses.fields(GRPOConfig)}
    keys |= {f"sft.{f.name}" for f in dataclasses.fields(TrainingArguments)}
    return keys | set(_keys(Recipe, ""))


def _keys(cls: typing.Any, prefix: str) -> Iterator[str]:
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        yield f"{prefix}{field.name}"
        for hint in (hints[field.name], *typing.get_args(hints[field.name])):
            if isinstance(hint, type) and dataclasses.is_dataclass(hint):
                yield from _keys(hint, f"{prefix}{field.name}.")


def test_recipe_keys_that_are_named_exist() -> None:
    known = recipe_keys()
    sections = {key.partition(".")[0] for key in known}
    seen = 0
    for page in PAGES:
        for span in code_spans(page):
            key = re.fullmatch(r"(\w+(?:\.\w+)+)(?:[=:].*)?", span)
            named = (
                key and key[1].split(".")[0] in sections - {"rewards", "name"} and not key[1].endswith((".py", ".md"))
            )
            if key and named and key[1] not in ("eval.json", "data.md", "recipe.yaml"):
                seen += 1
                assert key[1] in known, f"{page.name}: no key {key[1]}"
    assert seen > 20


def test_options_that_are_named_exist(capsys: pytest.CaptureFixture[str]) -> None:
    from accelerate.commands.launch import launch_command_parser

    from scripts import bench_gpu
    from scripts.bench import __main__ as bench

    known = {option for action in launch_command_parser()._actions for option in action.option_strings}
    for command in cli.COMMANDS:
        with pytest.raises(SystemExit):
            cli.main([command, "--help"])
        known |= set(re.findall(r"--[\w-]+", capsys.readouterr().out))
    for script in (bench.main, bench_gpu.main):
        with pytest.raises(SystemExit):
            script(["--help"])
        known |= set(re.findall(r"--[\w-]+", capsys.readouterr().out))
    named = [
        (page.name, option) for page in PAGES for s in code_spans(page) for option in re.findall(r"--[a-z][\w-]*", s)
    ]
    assert len(named) > 10
    assert not [(page, option) for page, option in named if option not in known]


def test_the_docs_name_no_machine() -> None:
    for page in [*PAGES, ROOT / "CHANGELOG.md"]:
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"(?<![\w.])/(home|root|work|tmp|mnt)/", text), page.name
