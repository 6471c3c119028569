"""Which checkpoint a run goes on from, and what it refuses, by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from avst.checkpoints import MANIFEST, seal
from avst.cli import main
from avst.errors import AvstError
from avst.going_on import choose
from tests.test_checkpoints import flip, write

ABOUT: dict[str, Any] = {
    "command": "train",
    "processes": 1,
    "seed": 0,
    "recipe": {"grpo": {"beta": 0.04}},
    "starting weights": "aa",
    "data": {"train.json": "bb"},
}


def test_the_newest_whole_one(tmp_path: Path) -> None:
    write(tmp_path / "checkpoint-2", ABOUT)
    flip(write(tmp_path / "checkpoint-4", ABOUT) / "model.safetensors")
    assert choose(tmp_path, "latest", ABOUT, False) == tmp_path / "checkpoint-2"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"processes": 2}, "processes is 1 there and 2 here"),
        ({"seed": 1}, "seed is 0 there and 1 here"),
        ({"recipe": {"grpo": {"beta": 0.0}}}, "recipe.grpo.beta is 0.04 there and 0.0 here"),
        ({"data": {"train.json": "cc"}}, 'data.train.json is "bb" there and "cc" here'),
        ({"starting weights": "zz"}, "starting weights is"),
        ({"command": "sft"}, 'command is "train" there and "sft" here'),
    ],
)
def test_another_run_is_refused_with_the_difference(
    tmp_path: Path, change: dict[str, Any], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write(tmp_path / "checkpoint-2", ABOUT)
    for resume in ("latest", str(folder)):
        with pytest.raises(AvstError, match="was made by another run") as error:
            choose(tmp_path, resume, ABOUT | change, False)
        assert words in str(error.value)
        assert "--allow-changes" in str(error.value)
    assert choose(tmp_path, "latest", ABOUT | change, True) == folder
    assert words in caplog.text


def test_a_damaged_one_by_name_needs_to_be_wanted(tmp_path: Path) -> None:
    folder = write(tmp_path / "checkpoint-2", ABOUT)
    flip(folder / "model.safetensors")
    with pytest.raises(AvstError, match=r"is not whole: model\.safetensors has other content"):
        choose(tmp_path, str(folder), ABOUT, False)
    assert choose(tmp_path, str(folder), ABOUT, True) == folder


def test_weights_alone_are_not_gone_on_from(tmp_path: Path) -> None:
    folder = write(tmp_path / "checkpoint-2", ABOUT)
    (folder / "rng_state.pth").unlink()
    seal(folder, ABOUT)
    with pytest.raises(AvstError, match="holds weights alone"):
        choose(tmp_path, "latest", ABOUT, True)


def test_where_there_is_nothing_to_go_on_from(tmp_path: Path) -> None:
    with pytest.raises(AvstError, match="it has no checkpoint"):
        choose(tmp_path / "nowhere", "latest", ABOUT, False)
    (write(tmp_path / "checkpoint-2", ABOUT) / MANIFEST).unlink()
    with pytest.raises(AvstError, match=r"none of its checkpoints is whole \(checkpoint-2: it has no manifest"):
        choose(tmp_path, "latest", ABOUT, False)
    with pytest.raises(AvstError, match="there is no checkpoint of a run there"):
        choose(tmp_path, str(tmp_path), ABOUT, False)


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (None, "no such run"),
        ("{", "is no run that can be read"),
        ('{"command": "train", "starts": []}', "is no run that can be read"),
        ('{"command": "eval", "starts": [{}]}', "was made by `avst eval`, which has nothing to go on with"),
    ],
)
def test_resume_wants_a_run(tmp_path: Path, record: str | None, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    if record is not None:
        folder.mkdir()
        (folder / "run.json").write_text(record)
    assert main(["resume", str(folder)]) == 1
    assert words in capsys.readouterr().err


def test_a_run_that_came_to_its_end_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "final").mkdir()
    (tmp_path / "run.json").write_text(json.dumps({"command": "train", "starts": [{}]}))
    assert main(["resume", str(tmp_path)]) == 0
    assert "came to its end before" in capsys.readouterr().out
