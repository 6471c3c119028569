"""What a report finds of a run, and what it says where there is nothing to find."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from avst.cli import main
from avst.errors import AvstError
from avst.report.build import Options, build_report
from avst.report.collect import Group, collect
from avst.report.run import find_evaluations, open_run
from avst.run_folder import RunFolder, read_completions
from avst.scenes.synthesise import Synthesised
from tests.report.report_world import World, make_run, read


def quiet(line: str) -> None:
    """Say nothing."""


def test_evaluations_below_the_run_are_found_earlier_weights_first(world: World) -> None:
    run = open_run(world.run)
    assert [(e.name, e.split) for e in run.evaluations] == [("before", "eval"), ("after", "eval")]
    assert run.evaluations[0].asked == len(world.questions("eval"))


def test_evaluations_beside_the_run_are_found_where_one_is_of_its_weights(world: World, tmp_path: Path) -> None:
    run = shutil.copytree(world.run, tmp_path / "grpo", ignore=shutil.ignore_patterns("report"))
    shutil.move(run / "eval" / "eval", tmp_path / "eval")
    assert open_run(run).evaluations == []  # of a run elsewhere
    for name in ("before", "after"):
        file = tmp_path / "eval" / name / "eval.json"
        file.write_text(file.read_text().replace(str(world.run), "runs/x/grpo"))
    assert [e.name for e in open_run(run).evaluations] == ["before", "after"]
    assert len(open_run(run, [tmp_path / "eval" / "before"]).evaluations) == 2  # named again: once


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda p, run: p / "nowhere", "no such folder"),
        (lambda p, run: p, "not a run of avst"),
        (lambda p, run: run.parent, "did you mean"),
    ],
)
def test_no_run_is_one_line(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str], make, said: str) -> None:
    assert main(["report", str(make(tmp_path, world.run))]) == 1
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_a_run_with_nothing_in_it_is_one_line(world: World, tmp_path: Path) -> None:
    for name in ("run.json", "recipe.yaml"):
        shutil.copy(world.run / name, tmp_path / name)
    with pytest.raises(AvstError, match="nothing to report"):
        open_run(tmp_path)
    with pytest.raises(AvstError, match=r"--eval .*: no evaluation there"):
        open_run(world.run, [tmp_path])


def test_a_run_without_completions_is_a_page_that_says_so(world: World, tmp_path: Path) -> None:
    run = shutil.copytree(world.run, tmp_path / "run", ignore=shutil.ignore_patterns("report", "completions", "eval"))
    index = build_report(run, tmp_path / "out", Options(), quiet)
    data = read(index.parent / "data" / "index.js")
    assert data["questions"] == []
    assert "kept no completions" in data["runs"][0]["notes"][0]


def test_only_so_many_groups_of_a_question_the_first_and_the_last_among_them(
    scenes: Synthesised, tmp_path: Path
) -> None:
    world = make_run(tmp_path / "long", scenes, steps=range(0, 90, 10))
    material = collect([open_run(world.run)], reasons=False, most_groups=3)
    questions = world.questions("train")
    for entry in material.entries.values():
        steps = [g.step for g in entry.groups if g.step is not None]
        assert len(steps) == (3 if entry.split == "train" else 0)
        if steps:
            assert (steps[0], steps[-1]) == (0, 80)
            assert steps == sorted(steps)
    assert material.left_out == (9 - 3) * len(questions)


def test_moved_annotations_leave_what_the_completions_hold(world: World, tmp_path: Path) -> None:
    run = shutil.copytree(world.run, tmp_path / "run", ignore=shutil.ignore_patterns("report"))
    text = (run / "recipe.yaml").read_text()
    (run / "recipe.yaml").write_text(
        text.replace(str(world.scenes.annotations["train"]), "gone/annotations_train.json")
    )
    index = build_report(run, tmp_path / "out", Options(), quiet)
    data = read(index.parent / "data" / "index.js")
    trained = {q.id: q for q in world.questions("train")}
    shown = {row[0]: row for row in data["questions"]}
    assert trained.keys() <= shown.keys()
    for name, question in trained.items():
        assert shown[name][2:4] == [question.text, list(question.gold_names)]
    assert any("gone/annotations_train.json" in note for note in data["runs"][0]["notes"])
    again = Options(annotations=(world.scenes.annotations["train"],))
    data = read(build_report(run, tmp_path / "out2", again, quiet).parent / "data" / "index.js")
    assert not any("gone" in note for note in data["runs"][0]["notes"])


def test_older_completions_say_no_space_and_it_is_worked_out_from_the_video(
    scenes: Synthesised, tmp_path: Path
) -> None:
    from avst.prompt import space_for_video

    world = make_run(tmp_path / "old", scenes, steps=(0,), with_space=False)
    index = build_report(world.run, tmp_path / "out", Options(), quiet)
    found = 0
    for number in range(len(world.questions("eval")), len(world.questions("eval")) + 4):
        record = read(index.parent / "data" / "q" / f"{number}.js")
        space = space_for_video(scenes.videos / f"{record['id'].split('/')[0]}.mp4", world.recipe.media)
        for one in record["groups"][0]["completions"]:
            for thing in one["objects"]:
                for t, x1, *_ in thing["track"]:
                    written = [
                        float(s.split("[")[1].split(",")[0])
                        for s in one["text"].splitlines()
                        if s.startswith(f"{t}: [")
                    ]
                    assert any(x1 == pytest.approx(w * space.source[0] / space.model[0], abs=0.01) for w in written)
                    found += 1
    assert found > 10


def test_a_damaged_parquet_file_costs_its_own_step_alone(world: World, tmp_path: Path) -> None:
    run = shutil.copytree(world.run, tmp_path / "run", ignore=shutil.ignore_patterns("report"))
    (run / "completions" / "step_000000.parquet").write_bytes(b"PAR1 nothing")
    rows = read_completions(RunFolder(run).completion_files()[1])
    RunFolder(run).write_completions(999_999, [{**rows[0], "completion": None}])
    index = build_report(run, tmp_path / "out", Options(), quiet)
    data = read(index.parent / "data" / "index.js")
    notes = data["runs"][0]["notes"]
    assert any("step_000000.parquet are left out, they cannot be read" in note for note in notes)
    assert any("step_999999.parquet are left out: a row has no 'completion'" in note for note in notes)
    assert len(notes) == len(set(notes))
    steps = {group.step for group in groups_of(run)}
    assert steps
    assert steps.isdisjoint({0, 999_999})


@pytest.mark.parametrize("identity", [{"checkpoint": "m"}, {"questions": [3]}, [1], {"questions": {"number": "all"}}])
def test_a_damaged_evaluation_is_passed_over(world: World, tmp_path: Path, identity: object) -> None:
    run = shutil.copytree(world.run, tmp_path / "run", ignore=shutil.ignore_patterns("report"))
    found = find_evaluations(run)
    for folder in found:
        record = json.loads((folder / "eval.json").read_text())
        (folder / "eval.json").write_text(json.dumps({**record, "identity": identity}))
    assert len(open_run(run).evaluations) <= len(found)
    assert (build_report(run, tmp_path / "out", Options(), quiet)).is_file()


def groups_of(run: Path) -> list[Group]:
    return [Group(0, int(rows[0]["step"]), rows) for rows in open_run(run).groups()]


def test_questions_shown_are_the_first_so_many_held_out_before_others(world: World, tmp_path: Path) -> None:
    index = build_report(world.run, tmp_path / "out", Options(most_questions=3), quiet)
    data = read(index.parent / "data" / "index.js")
    assert [row[0] for row in data["questions"]] == [q.id for q in world.questions("eval")][:3]
    assert "3 of" in data["notes"][0]


def test_a_report_of_another_run_is_kept_unless_told(world: World, other: World, tmp_path: Path) -> None:
    out = tmp_path / "out"
    build_report(world.run, out, Options(media="none", most_questions=1), quiet)
    build_report(world.run, out, Options(media="none", most_questions=2), quiet)  # the same run: made anew
    assert len(read(out / "data" / "index.js")["questions"]) == 2
    with pytest.raises(AvstError, match=r"holds a report of .*--overwrite"):
        build_report(other.run, out, Options(media="none", most_questions=1), quiet)
    build_report(other.run, out, Options(media="none", most_questions=1, overwrite=True), quiet)
    assert read(out / "data" / "index.js")["runs"][0]["name"] == "other"


def test_what_is_no_report_is_never_replaced(world: World, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(AvstError, match="holds something that is no report"):
            build_report(world.run, tmp_path, Options(overwrite=overwrite), quiet)
    with pytest.raises(AvstError, match="this is a file"):
        build_report(world.run, tmp_path / "thesis.tex", Options(overwrite=True), quiet)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_the_tables_are_those_of_the_evaluation(world: World, compared: Path) -> None:
    """Both runs in one table; a figure worked out by the library's own summary."""
    from avst.answer import parse
    from avst.metrics import measure, summarise
    from avst.word_vectors import WordVectors

    (table,) = read(compared / "data" / "tables.js")
    assert table["run"] is None
    (block,) = [b for b in table["blocks"] if b["task"] == "temporal"]
    names = [(row["name"], row["kind"]) for row in block["rows"]]
    assert [n for n, kind in names if kind == "model"] == [
        f"{run}: {e}" for run in ("shaken", "other") for e in ("before", "after")
    ]
    assert ("whole clip", "trivial") in names
    saved = {e.name: e for e in open_run(world.run).evaluations}["after"].answers
    questions = [q for q in world.questions("eval") if q.task == "temporal"]
    results = [measure(q, parse(saved[q.id].completion or ""), WordVectors()) for q in questions]
    row = next(row for row in block["rows"] if row["name"] == "shaken: after")
    wanted = summarise(results)["temporal"]
    assert row["cells"][0][0] == pytest.approx(wanted["m_tIoU"], abs=1e-3)
    assert row["cells"][0][3] == len(questions)


def test_metrics_become_curves(tmp_path: Path) -> None:
    from avst.report.figures import MOST_POINTS, curves

    rows = [{"step": 1, "reward": 0.5, "start": 0, "reward/st": None}, {"step": 2, "reward": 0.75, "kl": 0.1}]
    found = curves([*rows, {"step": 2, "train_runtime": 3.0, "train_loss": 1.0}])
    assert found["steps"] == [1, 2]
    assert found["series"] == {"reward": [0.5, 0.75], "kl": [None, 0.1]}
    long = curves([{"step": s, "reward": float(s % 2)} for s in range(3 * MOST_POINTS)])
    assert len(long["steps"]) <= MOST_POINTS
    assert long["bin"] == 3
    assert long["series"]["reward"][:2] == [pytest.approx(1 / 3, abs=1e-4), pytest.approx(2 / 3, abs=1e-4)]
    assert RunFolder(tmp_path).metrics() == []
