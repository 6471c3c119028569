"""What a run leaves on disk, and that nothing of it is lost or mixed with another run."""

from __future__ import annotations

import json
import math
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import avst
from avst import durable
from avst.config import Recipe, load_recipe, recipe_values
from avst.errors import AvstError
from avst.provenance import git_state, versions
from avst.run_folder import RunFolder

GIT = ("git", "-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    path = tmp_path / "try.yaml"
    path.write_text("model: {path: x}\nseed: 3\ngrpo: {beta: 0.04, data_seed: 9}")
    return load_recipe(path, output_dir=str(tmp_path / "run"))


# ---- the record of a run ---------------------------------------------------------------------------------------------


def test_a_run_records_what_it_needs_to_be_repeated(recipe: Recipe) -> None:
    folder = RunFolder.open(recipe, "train", argv=["avst", "train", "try.yaml", "seed=3"])
    assert load_recipe(folder.path / "recipe.yaml") == recipe
    record = json.loads((folder.path / "run.json").read_text())
    (start,) = record["starts"]
    assert (record["command"], record["name"]) == ("train", "try")
    assert start["argv"] == ["avst", "train", "try.yaml", "seed=3"]
    assert start["seeds"] == {"seed": 3, "grpo.data_seed": 9}
    assert start["versions"]["avst"] == avst.__version__
    assert start["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert {"transformers", "trl", "accelerate", "peft", "av", "python"} <= start["versions"].keys()
    assert start["git"].keys() == {"avst", "working_folder"}


def test_credentials_are_not_saved(recipe: Recipe) -> None:
    secret = replace(recipe, grpo={"hub_token": "hf_verysecret"})
    folder = RunFolder.open(secret, "train", argv=["avst", "train", "r.yaml", "grpo.hub_token=hf_verysecret"])
    saved = "".join(path.read_text() for path in folder.path.iterdir())
    assert "hf_verysecret" not in saved
    assert RunFolder.open(secret, "train").start_index == 1  # and the run can be continued


def test_the_same_run_continues_and_keeps_everything(recipe: Recipe) -> None:
    first = RunFolder.open(recipe, "train")
    first.log({"step": 1, "loss": 0.5})
    second = RunFolder.open(recipe, "train")
    second.log({"step": 2, "loss": 0.4})
    assert (first.start_index, second.start_index) == (0, 1)
    assert len(json.loads((second.path / "run.json").read_text())["starts"]) == 2
    assert [row["loss"] for row in second.metrics()] == [0.5, 0.4]


def test_another_recipe_is_refused_and_named(recipe: Recipe) -> None:
    RunFolder.open(recipe, "train").log({"step": 1})
    other = replace(recipe, grpo={"beta": 0.0, "data_seed": 9}, seed=4)
    with pytest.raises(AvstError) as error:
        RunFolder.open(other, "train")
    assert "holds another run: seed is 3 there and 4 here; grpo.beta is 0.04 there and 0.0 here" in str(error.value)
    assert "--overwrite" in str(error.value)
    assert RunFolder.open(recipe, "train").metrics() == [{"step": 1, "start": 0}]  # nothing was touched


def test_another_command_is_refused(recipe: Recipe) -> None:
    RunFolder.open(recipe, "sft")
    with pytest.raises(AvstError, match="it was made by `avst sft`"):
        RunFolder.open(recipe, "train")


def test_overwrite_keeps_nothing_of_the_earlier_run(recipe: Recipe) -> None:
    first = RunFolder.open(recipe, "train")
    first.log({"step": 1})
    (first.path / "checkpoint-10").mkdir()
    (first.path / "checkpoint-10" / "model.safetensors").write_bytes(b"old")
    again = RunFolder.open(replace(recipe, seed=4), "train", overwrite=True)
    assert sorted(path.name for path in again.path.iterdir()) == ["recipe.yaml", "run.json"]
    assert (again.start_index, again.metrics()) == (0, [])


def test_overwrite_deletes_runs_only(recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    foreign = tmp_path / "run"
    foreign.mkdir()
    (foreign / "metrics.jsonl").write_text("{}\n")
    (foreign / "thesis.tex").write_text("years")
    with pytest.raises(AvstError, match=r"no run\.json here"):
        RunFolder.open(recipe, "train", overwrite=True)
    (foreign / "run.json").write_text("{}")
    monkeypatch.chdir(foreign)
    with pytest.raises(AvstError, match="will not delete a folder that holds the working folder"):
        RunFolder.open(recipe, "train", overwrite=True)
    assert (foreign / "thesis.tex").read_text() == "years"


def test_a_broken_record_is_refused_not_replaced(recipe: Recipe) -> None:
    folder = RunFolder.open(recipe, "train")
    (folder.path / "run.json").write_text("{")
    with pytest.raises(AvstError, match="of a run that cannot be read"):
        RunFolder.open(recipe, "train")
    assert (folder.path / "run.json").read_text() == "{"


def test_an_output_folder_that_is_a_file(recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(AvstError, match="the output folder is a file"):
        RunFolder.open(recipe, "train")


def test_files_of_others_in_the_folder_are_left_alone(recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    folder = RunFolder.open(recipe, "train")
    assert (folder.path / "notes.txt").read_text() == "mine"


def test_the_saved_recipe_is_plain_yaml(recipe: Recipe) -> None:
    folder = RunFolder.open(recipe, "train")
    assert yaml.safe_load((folder.path / "recipe.yaml").read_text()) == recipe_values(recipe)


# ---- metrics ---------------------------------------------------------------------------------------------------------


def test_metrics_are_json_that_every_reader_accepts(recipe: Recipe) -> None:
    folder = RunFolder.open(recipe, "train")
    row = {
        "step": 1,
        "nan": math.nan,
        "inf": -math.inf,
        "torch": torch.tensor(0.5),
        "numpy": np.float32(0.25),
        "array": np.array([1.0, np.nan]),
        "nested": {"a": (1, True, None, math.inf)},
        "path": Path("a/b"),
        "text": "grün\nzwei",
    }
    folder.log(row)
    (line,) = (folder.path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    assert json.loads(line, parse_constant=refuse) == {
        "step": 1,
        "nan": None,
        "inf": None,
        "torch": 0.5,
        "numpy": 0.25,
        "array": [1.0, None],
        "nested": {"a": [1, True, None, None]},
        "path": "a/b",
        "text": "grün\nzwei",
        "start": 0,
    }


def test_a_line_that_a_crash_cut_costs_that_line_alone(recipe: Recipe) -> None:
    folder = RunFolder.open(recipe, "train")
    folder.log({"step": 1})
    with (folder.path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "lo')
    folder.log({"step": 3})
    assert [row["step"] for row in folder.metrics()] == [1, 3]


def test_steps_done_again_after_a_crash_count_once(recipe: Recipe) -> None:
    """Start 0 died at step 5 with a checkpoint of step 3; start 1 went on and died at 6; start 2 went on from 5."""
    for start, steps in ((0, range(1, 6)), (1, range(4, 7)), (2, range(6, 8))):
        folder = RunFolder.open(recipe, "train")
        for step in steps:
            folder.log({"step": step, "made_by": start})
    assert [(row["step"], row["made_by"]) for row in folder.metrics()] == [
        *((1, 0), (2, 0), (3, 0)),
        *((4, 1), (5, 1)),
        *((6, 2), (7, 2)),
    ]


# ---- completions -----------------------------------------------------------------------------------------------------


def completion(**changes: Any) -> dict[str, Any]:
    row = {
        "step": 3,
        "question_id": "v/0/st/0",
        "task": "st",
        "prompt": "When?",
        "completion": "<answer>ü</answer>",
        "rewards": {"format": 1.0, "object": None},
        "total": 1.0,
        "advantage": -0.5,
        "truncated": False,
        "n_tokens": 7,
    }
    return {**row, **changes}


def test_completions_come_back_as_they_were(recipe: Recipe) -> None:
    import pyarrow.parquet

    folder = RunFolder.open(recipe, "train")
    folder.write_completions(12, [completion(step=12, advantage=math.nan)])
    folder.write_completions(3, [completion(), completion(rewards={"format": 0.0, "object": 0.5})])
    path = folder.path / "completions" / "step_000003.parquet"
    rows = list(folder.completions())
    assert [row["step"] for row in rows] == [3, 3, 12]
    assert [(row["reward_format"], row["reward_object"]) for row in rows] == [(1.0, None), (0.0, 0.5), (1.0, None)]
    assert rows[2]["advantage"] is None
    assert rows[0] == {
        **{key: value for key, value in completion().items() if key != "rewards"},
        "reward_format": 1.0,
        "reward_object": None,
    }
    types = {field.name: str(field.type) for field in pyarrow.parquet.read_schema(path)}
    assert (types["reward_object"], types["truncated"], types["n_tokens"]) == ("double", "bool", "int64")


def test_a_column_of_nothing_is_still_a_column_of_numbers(recipe: Recipe) -> None:
    """object never applies to temporal questions; readers of all parts together need one type."""
    import pyarrow.dataset

    folder = RunFolder.open(recipe, "train")
    folder.write_completions(1, [completion(rewards={"format": 1.0, "object": None})])
    folder.write_completions(2, [completion(rewards={"format": 1.0, "object": 0.25})])
    table = pyarrow.dataset.dataset(folder.path / "completions").to_table()
    assert table.column("reward_object").to_pylist() == [None, 0.25]
    folder.write_completions(4, [])
    assert len(list(folder.completions())) == 2


def test_a_step_done_again_replaces_its_completions(recipe: Recipe) -> None:
    folder = RunFolder.open(recipe, "train")
    folder.write_completions(3, [completion(completion="first")])
    folder.write_completions(3, [completion(completion="second")])
    assert [row["completion"] for row in folder.completions()] == ["second"]


# ---- files that survive ----------------------------------------------------------------------------------------------


def test_a_write_that_fails_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    durable.write_atomically(path, "old")

    def fail_half_way() -> None:
        with durable.replacing(path) as temporary:
            temporary.write_text("half of the n")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_files_have_the_permissions_of_ordinary_files(tmp_path: Path) -> None:
    (tmp_path / "ordinary").touch()
    durable.write_atomically(tmp_path / "atomic", "x")
    assert os.stat(tmp_path / "atomic").st_mode == os.stat(tmp_path / "ordinary").st_mode


# ---- provenance ------------------------------------------------------------------------------------------------------


def test_versions_say_what_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("avst.provenance.LIBRARIES", ("torch", "no-such-library"))
    monkeypatch.setattr("avst.provenance.OPTIONAL", ("no-such-extra",))
    found = versions()
    assert found["no-such-library"] is None
    assert "no-such-extra" not in found


def test_git_state_says_commit_and_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert git_state()["working_folder"] is None
    for arguments in (("init", "-q"), ("commit", "-q", "--allow-empty", "-m", "x")):
        subprocess.run([*GIT, *arguments], check=True)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    assert git_state()["working_folder"] == {"commit": commit, "dirty": False, "changed": []}
    (tmp_path / "new.py").touch()
    assert git_state()["working_folder"] == {"commit": commit, "dirty": True, "changed": ["?? new.py"]}


def test_no_git_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_state() == {"avst": None, "working_folder": None}
