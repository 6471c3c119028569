"""Evaluation: the same answers in one run and in pieces, in one process and in two; clips that cannot be read."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from avst import assemble
from avst.cli import main
from avst.commands.eval import named_checkpoints
from avst.config import Recipe, load_recipe
from avst.durable import read_lines
from avst.errors import AvstError
from avst.eval_folder import EvalFolder
from avst.evaluate import batches, comparison_table, evaluate, split_questions
from avst.models.tiny import make_tiny
from avst.scenes.settings import make_settings
from avst.scenes.synthesise import synthesise
from avst.types import Space

RECIPE = """
name: tiny
model: {path: model, dtype: float32}
data: {eval: scenes/annotations_eval.json, videos: scenes/videos}
media: {fps: 2.0, min_pixels: 3136, max_pixels: 12544}
prompt: {max_text_tokens: 1024}
eval: {max_new_tokens: 12, batch_size: 4}
"""


def talkative(checkpoint: Path) -> None:
    """A fresh model repeats one word whatever it is asked: its layers add little to the last word's embedding. With
    strong layers what it says depends on all that it was shown."""
    file = checkpoint / "model.safetensors"
    weights = load_file(file)
    for name, weight in weights.items():
        if ".layers." in name and weight.ndim == 2:
            weight.mul_(6)
    save_file(weights, file, metadata={"format": "pt"})


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Omni model, three clips with their questions, and a recipe."""
    folder = tmp_path_factory.mktemp("eval")
    make_tiny("qwen2_5_omni", folder / "model", hidden=64, layers=2)
    talkative(folder / "model")
    synthesise(folder / "scenes", 3, 0, make_settings("easy"), n_eval=3)
    (folder / "r.yaml").write_text(RECIPE)
    return folder


def recipe_of(place: Path, *overrides: str) -> Recipe:
    return load_recipe(place / "r.yaml", overrides)


def completions(folder: Path) -> dict[str, str | None]:
    return {i: answer.completion for i, answer in EvalFolder(folder).read().items()}


def n_lines(folder: Path) -> int:
    return sum(len(list(read_lines(file))) for file in folder.glob("predictions_*.jsonl"))


@pytest.fixture(scope="module")
def whole(place: Path) -> tuple[Path, dict[str, Any]]:
    """One uninterrupted evaluation, for the others to be compared with."""
    return place / "whole", evaluate(recipe_of(place), None, place / "whole")


# ---- the same answers, however they are come by ---------------------------------------------------------------------


def test_every_question_once_in_any_batch(place: Path) -> None:
    questions = split_questions(recipe_of(place), "eval")
    for size in (1, 3, 100):
        cut = batches(questions, size)
        assert sorted(q.id for batch in cut for q in batch) == sorted(q.id for q in questions)
        assert all(len(batch) == size for batch in cut[:-1])
        assert cut == batches(list(reversed(questions)), size)
    assert len(split_questions(recipe_of(place, "eval.max_questions=2"), "eval")) == 2


def test_answers_do_not_depend_on_their_batch(place: Path, whole: tuple[Path, dict[str, Any]]) -> None:
    alone = evaluate(recipe_of(place, "eval.batch_size=1"), None, place / "alone")
    said = completions(place / "alone")
    assert said == completions(whole[0])
    assert len(set(said.values())) > 1  # else the comparison says nothing
    assert alone == whole[1]


def test_a_killed_evaluation_goes_on(
    place: Path, whole: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, recipe = place / "killed", recipe_of(place)
    evaluate(recipe, None, out)
    file = out / "predictions_0.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    assert len(lines) == len(whole[1]["questions"]) > 6
    file.write_bytes(b"".join(lines[:5]) + lines[5][:40])  # in the second batch of four, and in the middle of a line
    (out / "scores.json").unlink()
    asked: list[str] = []
    build_all = assemble.PromptBuilder.build_all

    def spy(self: Any, questions: Any, clip: Any) -> Any:
        asked.extend(q.id for q in questions)
        return build_all(self, questions, clip)

    monkeypatch.setattr(assemble.PromptBuilder, "build_all", spy)
    assert evaluate(recipe, None, out) == whole[1]
    assert completions(out) == completions(whole[0])
    first = {json.loads(line)["id"] for line in lines[:4]}
    assert sorted(asked) == sorted(set(completions(out)) - first)  # the batch that was cut short is decoded as it was
    assert n_lines(out) == len(lines)  # but what it had written is not written again
    assert file.read_bytes().splitlines()[5] == lines[5][:40]


def test_what_is_answered_needs_no_model(
    place: Path, whole: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other rewards judge the answers that are there."""

    def no_model(*_: Any) -> None:
        raise AssertionError("a model was loaded")

    out = place / "rescored"
    evaluate(recipe_of(place), None, out)
    monkeypatch.setattr(assemble, "policy", no_model)
    scores = evaluate(recipe_of(place, "rewards.format.weight=0"), None, out)
    assert scores["metrics"] == whole[1]["metrics"]


def test_two_processes_score_as_one(place: Path, whole: tuple[Path, dict[str, Any]]) -> None:
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "avst"]
    arguments = ["eval", str(place / "r.yaml"), "--checkpoint", f"model={place / 'model'}", "--out", str(place / "two")]
    done = subprocess.run(
        [*launch, *arguments],
        capture_output=True,
        text=True,
        timeout=200,
        env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    out = place / "two" / "eval" / "model"
    rows = [list(read_lines(out / f"predictions_{rank}.jsonl")) for rank in (0, 1)]
    assert all(rows)
    assert sum(map(len, rows)) == len(whole[1]["questions"])
    assert completions(out) == completions(whole[0])
    assert json.loads((out / "scores.json").read_text()) == whole[1]
    assert done.stdout.count("Table 3") == 1


# ---- answers, scores and tables -------------------------------------------------------------------------------------


def test_gold_answers_in_the_models_space_score_full(place: Path, whole: tuple[Path, dict[str, Any]]) -> None:
    """Each line's space leads back to source pixels: gold answers, put into the model's pixels by hand, are right."""
    out, recipe = place / "gold", recipe_of(place)
    evaluate(recipe, None, out)
    file = out / "predictions_0.jsonl"
    gold = {q.id: q.gold for q in split_questions(recipe, "eval")}
    lines = []
    for row in read_lines(file):
        (sw, sh), (mw, mh) = row["space"]["source"], row["space"]["model"]
        assert (sw, sh) != (mw, mh)
        (thing,) = gold[row["id"]].objects if len(gold[row["id"]].objects) == 1 else (None,)
        if thing is None:
            lines.append(row)
            continue
        when = "".join(f"<when>[{i.start}, {i.end}]</when>" for i in thing.intervals)
        boxes = [
            f"{t}: [{x1 * mw / sw:.6f}, {y1 * mh / sh:.6f}, {x2 * mw / sw:.6f}, {y2 * mh / sh:.6f}]"
            for t, (x1, y1, x2, y2) in zip(thing.track.times_s, thing.track.boxes_px, strict=True)
        ]
        where = "<where>\n" + "\n".join(boxes) + "\n</where>" if boxes else ""
        text = f"<answer>\n<object>{thing.name}</object>\n{when}\n{where}\n</answer>"
        lines.append({**row, "completion": text})
    file.write_text("".join(json.dumps(row) + "\n" for row in lines))
    scores = {q["id"]: q for q in evaluate(recipe, None, out)["questions"]}
    told = [i for i in scores if len(gold[i].objects) == 1]
    assert {scores[i]["task"] for i in told} == {"temporal", "spatial", "st"}
    for i in told:
        applies = [value for name, value in scores[i]["rewards"].items() if value is not None and name != "total"]
        assert applies == pytest.approx([1.0] * len(applies), abs=1e-5), i


def test_saved_answers_are_what_the_prompt_reads(place: Path, whole: tuple[Path, dict[str, Any]]) -> None:
    rows = list(read_lines(whole[0] / "predictions_0.jsonl"))
    assert all(row["tokens"] == 12 for row in rows if row["truncated"])
    assert whole[1]["truncated"] == sum(row["truncated"] for row in rows)
    sizes = {tuple(row["space"]["source"]) for row in rows}
    assert sizes <= {(112, 112), (128, 96)}  # what the easy scenes are made in
    saved = EvalFolder(whole[0]).read()[rows[0]["id"]]
    assert saved.space == Space(tuple(rows[0]["space"]["source"]), tuple(rows[0]["space"]["model"]))


def test_several_models_and_the_trivial_answers_in_one_table(
    place: Path, whole: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = recipe_of(place)
    made = comparison_table(recipe, {"before": whole[0], "after": whole[0]})
    assert [(row.name.strip(), row.kind) for row in made.rows] == [
        ("before", "model"),
        ("skill of before", "skill"),
        ("after", "model"),
        ("skill of after", "skill"),
        ("whole clip", "trivial"),
        ("whole frame", "trivial"),
        ("most frequent name", "trivial"),
    ]
    figures = whole[1]["metrics"]["temporal"]
    assert made.rows[0].cells["temporal", "m_tIoU"].value == figures["m_tIoU"]
    assert made.rows[0].cells["temporal", "m_tIoU"].n == figures["n_of"]["m_tIoU"]
    text = (whole[0] / "table.txt").read_text()
    assert "most frequent name" in text
    assert "cut off at eval.max_new_tokens" in text
    assert max(map(len, text.splitlines())) <= 120
    records = json.loads((whole[0] / "table.json").read_text())["records"]
    rows = list(csv.DictReader((whole[0] / "table.csv").open()))
    assert [(r["row"], r["figure"], int(r["n"])) for r in rows] == [(r["row"], r["figure"], r["n"]) for r in records]
    assert {"whole clip", "whole frame", "most frequent name"} <= {r["row"] for r in rows}


def test_the_whole_frame_is_the_videos_frame(place: Path, whole: tuple[Path, dict[str, Any]]) -> None:
    """viou of a frame-sized box is the mean of box area / frame area, worked out from annotations and frame sizes."""
    recipe = recipe_of(place)
    sizes = {row["id"]: row["space"]["source"] for row in read_lines(whole[0] / "predictions_0.jsonl")}
    expected = []
    for question in split_questions(recipe, "eval"):
        if question.task == "st":
            (thing,) = question.gold.objects
            area = sizes[question.id][0] * sizes[question.id][1]
            shares = [(x2 - x1) * (y2 - y1) / area for x1, y1, x2, y2 in thing.track.boxes_px if x2 > x1]
            expected.append(100 * sum(shares) / len(shares))
    made = comparison_table(recipe, {"model": whole[0]})
    row = next(row for row in made.rows if row.name == "whole frame")
    assert row.cells["st", "m_vIoU"].value == pytest.approx(sum(expected) / len(expected))


# ---- what goes wrong ------------------------------------------------------------------------------------------------


def broken(place: Path, *overrides: str) -> tuple[Recipe, set[str]]:
    """A recipe one of whose videos is no video, and the ids of that video's questions."""
    recipe = recipe_of(place, *overrides)
    folder = place / "broken"
    if not folder.exists():
        folder.mkdir()
        for video in (place / "scenes" / "videos").glob("*.mp4"):
            (folder / video.name).write_bytes(video.read_bytes())
    recipe = replace(recipe, data=replace(recipe.data, videos=str(folder)))
    questions = split_questions(recipe, "eval")
    (folder / f"{questions[0].video}.mp4").write_bytes(b"no video")
    return recipe, {q.id for q in questions if q.video == questions[0].video}


def test_a_skipped_video_counts_as_missing(place: Path, whole: tuple[Path, dict[str, Any]]) -> None:
    recipe, ids = broken(place, "media.on_error=skip")
    out = place / "skipped"
    scores = evaluate(recipe, None, out)
    assert set(scores["skipped"]) == ids
    assert all(".mp4" in why for why in scores["skipped"].values())
    assert scores["missing"] == len(ids)
    by_id = {q["id"]: q for q in scores["questions"]}
    assert all(by_id[i]["rewards"]["format"] == 0.0 for i in ids)
    assert scores["metrics"]["temporal"]["n"] == whole[1]["metrics"]["temporal"]["n"]
    text = (out / "table.txt").read_text()
    assert f"{len(ids)} of {len(by_id)} questions skipped" in text
    assert "whole frame: up to the largest x2 and y2 annotated in 1 videos that cannot be read" in text
    # the video comes back: asked again only on request, and then as if it had never been away
    video = next(iter(ids)).split("/")[0]
    (place / "broken" / f"{video}.mp4").write_bytes((place / "scenes" / "videos" / f"{video}.mp4").read_bytes())
    assert evaluate(recipe, None, out)["missing"] == len(ids)
    assert evaluate(recipe, None, out, retry_skipped=True) == whole[1]


def test_a_bad_video_ends_the_run_and_loses_nothing(place: Path) -> None:
    recipe, ids = broken(place, "eval.batch_size=1")
    with pytest.raises(AvstError, match=r"scene.*\.mp4") as caught:
        evaluate(recipe, None, place / "ended")
    assert "\n" not in str(caught.value)
    said = completions(place / "ended")
    assert not set(said) & ids


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("media.fps=1.0", "media.fps is 2.0 there and 1.0 here"),
        ("eval.max_new_tokens=13", "eval.max_new_tokens is 12 there and 13 here"),
        ("eval.max_questions=3", "questions.number is"),
        ("data.videos=.", "data.videos is"),
    ],
)
def test_another_recipe_is_refused(place: Path, whole: tuple[Path, dict[str, Any]], override: str, named: str) -> None:
    before = completions(whole[0])
    with pytest.raises(AvstError) as caught:
        evaluate(recipe_of(place, override), None, whole[0])
    assert named in str(caught.value)
    assert "--overwrite" in str(caught.value)
    assert completions(whole[0]) == before


def test_another_checkpoint_is_refused_and_a_copy_is_not(place: Path, whole: tuple[Path, dict[str, Any]]) -> None:
    import shutil

    other = place / "elsewhere"
    shutil.copytree(place / "model", other)
    assert evaluate(recipe_of(place), other, whole[0]) == whole[1]
    weights = load_file(other / "model.safetensors")
    next(iter(weights.values())).view(-1)[0] += 1.0  # one number of all
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(AvstError, match=r"checkpoint\.digest is .* there and .* here"):
        evaluate(recipe_of(place), other, whole[0])


def test_no_checkpoint_there(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = place / "run"
    (run / "final").mkdir(parents=True, exist_ok=True)
    (run / "final" / "config.json").write_text("{}")
    assert main(["eval", str(place / "r.yaml"), "--checkpoint", str(run), "--out", str(place / "none")]) == 1
    said = capsys.readouterr().err.strip()
    assert said == f"avst: error: {run}: holds no checkpoint (no config.json); did you mean {run}/final?"
    assert not (place / "none").exists()


def test_names_of_rows(place: Path) -> None:
    recipe = recipe_of(place)
    assert named_checkpoints([], recipe) == {"model": None}
    assert list(named_checkpoints(["a=runs/x/final", "runs/x/final", "hub/Qwen-7B"], recipe)) == ["a", "x", "Qwen-7B"]
    with pytest.raises(AvstError, match="two checkpoints named 'a'"):
        named_checkpoints(["a=x", "a=y"], recipe)
    with pytest.raises(AvstError, match="give NAME=PATH"):
        named_checkpoints(["runs/lr=1/final"], recipe)
