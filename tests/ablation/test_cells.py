"""Cells in processes of their own: run, crashed, killed, taken up again, refused; the table against numbers by hand."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest

from avst.ablation.cell import state
from avst.ablation.run import run_all, show_tables
from avst.cli import main
from avst.errors import AvstError
from tests.ablation.world import GOLDEN, launcher, make_world, plan_in


@pytest.fixture
def place(tmp_path: Path) -> Path:
    make_world(tmp_path)
    return tmp_path


def calls(place: Path) -> list[list[str]]:
    return [json.loads(line) for line in (place / "calls.jsonl").read_text().splitlines()]


def records(place: Path) -> dict[tuple[str, str, str], dict[str, object]]:
    rows = json.loads((place / "out" / "eval" / "table.json").read_text())["records"]
    return {(row["row"], row["task"], row["figure"]): row for row in rows}


def test_the_table_has_the_numbers_that_the_answers_give(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Questions 0, 3, 4 are temporal, 1 and 5 spatial, 2 st. Seed 0 and 2 answer 0, 2, 4; seed 1 answers 1, 3, 5."""
    plan = plan_in(place)
    assert run_all(plan)
    assert show_tables(plan)
    found = records(place)
    full = found["full", "temporal", "m_tIoU"]
    assert full["per_seed"] == pytest.approx({"0": 200 / 3, "1": 100 / 3, "2": 200 / 3})
    assert full["mean"] == pytest.approx(500 / 9)
    assert full["sd"] == pytest.approx((((100 / 9) ** 2 * 2 + (200 / 9) ** 2) / 2) ** 0.5)
    assert full["difference"] is None
    dropped = found["without temporal", "temporal", "m_tIoU"]
    assert (dropped["mean"], dropped["difference"]) == (0.0, pytest.approx(-500 / 9))
    assert dropped["low"] < dropped["difference"] < dropped["high"] <= 0  # type: ignore[operator]
    for figure in ("object_accuracy", "object_f1"):  # not touched: the same answers, so the same number exactly
        same = found["without temporal", "spatial", figure]
        assert (same["difference"], same["low"], same["high"]) == (0.0, 0.0, 0.0)
    assert found["untrained", "temporal", "m_tIoU"]["mean"] == 0.0
    assert found["untrained", "temporal", "m_tIoU"]["difference"] == pytest.approx(-500 / 9)
    assert ("whole clip", "temporal", "m_tIoU") in found
    with (place / "out" / "eval" / "table.csv").open() as file:
        lines = {(r["row"], r["task"], r["figure"]): r for r in csv.DictReader(file)}
    assert float(lines["full", "temporal", "m_tIoU"]["mean"]) == pytest.approx(500 / 9)
    assert lines["full", "temporal", "m_tIoU"]["per_seed"] == "0=66.6667 1=33.3333 2=66.6667"
    assert "55.56 ±19.25" in capsys.readouterr().out
    assert (place / "out" / "eval" / "effects.png").stat().st_size > 5000


def test_a_finished_cell_is_left_alone(place: Path) -> None:
    plan = plan_in(place, seeds="1")
    assert run_all(plan)
    before = [words for words in calls(place) if words[0] == "train"]
    assert run_all(plan_in(place, seeds="2"))  # one seed more: two cells
    after = [words for words in calls(place) if words[0] == "train"]
    assert (len(before), len(after)) == (2, 4)
    assert [words[words.index("--seed") + 1] for words in after[2:]] == ["1", "1"]


def test_a_crash_ends_no_other_cell_and_is_shown(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "crash").write_text("without_temporal/seed_1")
    words = ["ablate", str(place / "base.yaml"), "--drop", "temporal", "--seeds", "2", "--out", str(place / "out")]
    words += ["--launcher", " ".join(launcher(place))]
    assert main(words) == 1
    shown = capsys.readouterr().out
    log = place / "out" / "cells" / "without_temporal" / "seed_1" / "log.txt"
    assert f"failed: training ended with status 3: avst: error: out of luck (log: {log})" in shown
    assert "(1 of 2 seeds; failed: 1)" in shown
    assert records(place)["without temporal", "temporal", "m_tIoU"]["per_seed"] == {"0": 0.0}
    assert list(records(place)["full", "temporal", "m_tIoU"]["per_seed"]) == ["0", "1"]  # type: ignore[call-overload]
    assert main([*words, "--table-only"]) == 1
    assert main([*words, "--list"]) == 0
    assert "without_temporal/seed_1                       failed" in capsys.readouterr().out
    (place / "crash").unlink()
    assert main(words) == 0  # the cell that failed is run again, the others are not
    trained = [w[w.index("--output-dir") + 1] for w in calls(place) if w[0] == "train"]
    assert len(trained) == 5
    assert trained[-1] == str(log.parent)


def test_a_killed_cell_goes_on_from_its_newest_whole_checkpoint(place: Path) -> None:
    (place / "stop").write_text("full/seed_0")
    plan = plan_in(place, drops=(), seeds="1")
    assert not run_all(plan)
    assert "ended with signal 9" in json.loads((plan.cells[0].folder / "cell.json").read_text())["why"]
    (place / "stop").unlink()
    assert run_all(plan)
    last = [words for words in calls(place) if words[0] == "train"][-1]
    assert last[last.index("--resume") + 1] == str(plan.cells[0].folder / "checkpoint-2")


def test_cells_can_be_run_one_by_one_and_gathered(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["ablate", str(place / "base.yaml"), "--drop", "temporal", "--out", str(place / "out")]
    words += ["--launcher", " ".join(launcher(place))]
    assert main([*words, "--cell", "full/seed_0"]) == 0
    assert main([*words, "--table-only"]) == 0
    shown = capsys.readouterr().out
    assert "without_temporal/seed_0: not begun" in shown
    assert "(not evaluated)" in shown
    assert main([*words, "--cell", "start"]) == 0
    assert main([*words, "--cell", "without_temporal/seed_0"]) == 0
    assert main([*words, "--cell", "without_tempral/seed_0"]) == 1
    assert "did you mean" in capsys.readouterr().err
    assert main([*words, "--table-only"]) == 0
    shown = capsys.readouterr().out
    assert "not begun" not in shown
    assert "one seed: it knows nothing" in shown


@pytest.mark.parametrize("change", ["recipe", "weights", "data"])
def test_a_cell_of_something_else_is_refused_with_the_difference(place: Path, change: str) -> None:
    assert run_all(plan_in(place, seeds="1"))
    count = len(calls(place))
    if change == "recipe":
        text = (place / "base.yaml").read_text()
        (place / "base.yaml").write_text(text + "grpo: {beta: 0.5}\n")
        words = "recipe.grpo.beta is null there and 0.5 here"
    elif change == "weights":
        (place / "start_model" / "model.safetensors").write_text("null ")
        words = "starting weights is"
    else:
        (place / "copy.json").write_text(GOLDEN.read_text())
        text = (place / "base.yaml").read_text()
        (place / "base.yaml").write_text(text.replace(f"train: {GOLDEN}", f"train: {place / 'copy.json'}"))
        words = "recipe.data.train is"
    with pytest.raises(AvstError, match="holds a cell of another recipe") as error:
        run_all(plan_in(place, seeds="1"))
    assert words in str(error.value)
    assert len(calls(place)) == count


def test_a_cell_that_another_process_works_on_is_left_to_it(place: Path) -> None:
    import fcntl

    plan = plan_in(place, drops=(), seeds="1")
    (folder := plan.cells[0].folder).mkdir(parents=True)
    with (folder / "lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert not run_all(plan)
    assert [words[0] for words in calls(place)] == ["eval"]  # the untrained model's


def test_looking_at_a_cell_keeps_nobody_from_it(place: Path) -> None:
    """`--list` and `--table-only` may look while a cluster's job begins."""
    import fcntl

    plan = plan_in(place, drops=(), seeds="1")
    assert run_all(plan)
    with (plan.cells[0].folder / "lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_SH)  # another one that looks
        assert state(plan.cells[0]).stage == "finished"
        fcntl.flock(file, fcntl.LOCK_EX)
        assert state(plan.cells[0]).stage == "running elsewhere"


def test_tables_are_made_where_the_model_is_not(place: Path) -> None:
    assert run_all(plan_in(place, seeds="1"))
    before = records(place) if show_tables(plan_in(place, seeds="1")) else {}
    shutil.rmtree(place / "start_model")
    assert show_tables(plan_in(place, seeds="1"))
    assert records(place) == before


def test_other_settings_of_the_evaluation_answer_anew(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Answers to other questions are neither mixed into the table nor left in the way of new ones."""
    words = ["ablate", str(place / "base.yaml"), "--drop", "temporal", "--out", str(place / "out")]
    words += ["--launcher", " ".join(launcher(place))]
    assert main(words) == 0
    other = [*words, "eval.max_questions=4"]
    main([*other, "--table-only"])
    assert "full/seed_0: evaluated with other settings" in capsys.readouterr().out
    assert ("full", "temporal", "m_tIoU") not in records(place)
    before = len(calls(place))
    assert main(other) == 0
    new = calls(place)[before:]
    assert [w[0] for w in new] == ["eval"] * 3  # the untrained model and two cells; nothing is trained
    assert [("--overwrite" in w) for w in new] == [False, True, True]
    assert ("full", "temporal", "m_tIoU") in records(place)
