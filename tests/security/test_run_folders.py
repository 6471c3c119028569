"""A run's folder from a stranger: whatever its files hold, a command says so in one line or passes it over."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from avst.cli import main
from avst.commands.log import _config
from avst.config import load_recipe
from avst.durable import read_lines
from avst.errors import AvstError
from avst.run_folder import RunFolder
from tests.security.canary import Canary

DEEP = "[" * 100_000
RECIPE = "name: a\nmodel: {path: nowhere}\nrewards: {sly: {use: './sly.py:reward'}}\ndata: {train: q.json, videos: v}\n"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)  # `avst resume` goes where the run began
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "recipe.yaml").write_text(RECIPE + f"output_dir: {folder}\n")
    record = {"command": "train", "name": "a", "starts": [{"folder": str(tmp_path)}]}
    (folder / "run.json").write_text(json.dumps(record))
    (folder / "metrics.jsonl").write_text('{"step": 1, "elapsed_s": 1.0, "reward": 0.5}\n')
    return folder


@pytest.mark.parametrize("name", ["run.json", "recipe.yaml", "metrics.jsonl", "checkpoint-1/manifest.json"])
@pytest.mark.parametrize("command", ["resume", "verify", "watch --once", "report", "log"])
def test_json_without_end_ends_no_command_as_a_bug(
    name: str, command: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / name).parent.mkdir(exist_ok=True)
    (run / name).write_text(DEEP[:3000] if name == "recipe.yaml" else DEEP)
    first, *rest = command.split()
    assert main([first, str(run), *rest]) in (0, 1)
    assert "unexpected" not in "".join(capsys.readouterr())


def test_a_line_without_end_costs_itself_alone(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(f'{{"a": 1}}\n{DEEP}\n{{"a": 2}}\n')
    assert [row["a"] for row in read_lines(tmp_path / "a.jsonl")] == [1, 2]


def test_aliases_of_aliases_are_counted_wherever_a_recipe_is_read(run: Path) -> None:
    """Nine of nine of nine … : a kilobyte that stands for gigabytes."""
    lines = ["a0: &a0 [x,x,x,x,x,x,x,x,x]"]
    lines += [f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9)]
    recipe = load_recipe(run / "recipe.yaml")
    (run / "recipe.yaml").write_text("\n".join(lines))
    with pytest.raises(AvstError, match="more than 100000 values"):
        load_recipe(run / "recipe.yaml")
    with pytest.raises(AvstError, match="more than 100000 values"):
        RunFolder.open(recipe, "train")
    assert _config(run / "recipe.yaml") == {}


def test_looking_at_a_run_runs_none_of_its_rewards(
    run: Path, canary: Canary, capsys: pytest.CaptureFixture[str]
) -> None:
    """docs/security.md: watch, verify and log run nothing of a run's folder, report nothing with --no-reasons."""
    for place in (run, run.parent):
        (place / "sly.py").write_text(canary.code() + "def reward(*a, **k): ...\n")
    for command in ("watch --once", "verify", "log", "report --no-reasons"):
        first, *rest = command.split()
        assert main([first, str(run), *rest]) in (0, 1)
        assert not canary.dead, command
    assert "unexpected" not in "".join(capsys.readouterr())
    main(["report", str(run)])
    assert canary.dead, "the trap works"
