"""avst score from files to scores.json, the table and the reasons."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from avst.cli import main
from avst.tasks.r_avst import load_annotations
from avst.types import Space

SMALL = Path(__file__).parent / "golden" / "r_avst_small.json"
IDS = [
    "street/0/temporal/0",
    "street/0/spatial/0",
    "street/1/st/0",
    "harbour/0/temporal/0",
    "harbour/0/temporal/1",
    "harbour/0/spatial/0",
]


def gold() -> dict[str, str]:
    return {q.id: q.gold_text for q in load_annotations(SMALL)}


def write_predictions(path: Path, completions: dict[str, str]) -> Path:
    lines = [json.dumps({"id": i, "completion": text}) for i, text in completions.items()]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def score(tmp_path: Path, completions: dict[str, str], *more: str) -> Any:
    predictions = write_predictions(tmp_path / "mine.jsonl", completions)
    out = tmp_path / "out" / "scores.json"
    paths = ["--annotations", str(SMALL), "--predictions", str(predictions), "--out", str(out)]
    assert main(["score", *paths, *more]) == 0
    return json.loads(out.read_text(encoding="utf-8"))


def fails(tmp_path: Path, capsys: pytest.CaptureFixture[str], completions: dict[str, str], *more: str) -> str:
    """The one line of a failing command, which must have written nothing."""
    predictions = write_predictions(tmp_path / "mine.jsonl", completions)
    out = tmp_path / "scores.json"
    paths = ["--annotations", str(SMALL), "--predictions", str(predictions), "--out", str(out)]
    assert main(["score", *paths, *more]) == 1
    assert not out.exists()
    message = capsys.readouterr().err.strip()
    assert message.startswith("avst: error: ")
    assert "\n" not in message
    return message


# ---- scores.json ----------------------------------------------------------------------------------------------------


def test_layout_and_gold_answers(tmp_path: Path) -> None:
    scores = score(tmp_path, gold())
    assert list(scores) == ["questions", "metrics", "unknown_ids", "missing"]
    assert [q["id"] for q in scores["questions"]] == IDS
    keys = ["id", "task", "rewards", "problems", "tiou", "first_tiou", "viou", "object_accuracy"]
    assert all(list(q) == keys for q in scores["questions"])
    assert all(list(q["rewards"]) == ["format", "object", "temporal", "spatial", "total"] for q in scores["questions"])
    rewards = {q["id"]: list(q["rewards"].values()) for q in scores["questions"]}
    assert rewards[IDS[0]] == [1.0, None, 1.0, None, 2.0]
    assert rewards[IDS[1]] == [1.0, 1.0, None, 1.0, 2.0]
    assert rewards[IDS[2]] == [1.0, 1.0, 1.0, 1.0, 2.0]
    assert rewards[IDS[5]] == [0.0, 1.0, None, None, 0.5]  # nothing but zero boxes, as 8hSEus9jvHc/0/spatial/0
    metrics = scores["metrics"]
    assert list(metrics) == ["temporal", "spatial", "st"]
    figures = ["m_tIoU", "R1@0.3", "R1@0.5", "R1@0.7"]
    assert list(metrics["temporal"]) == ["n", *figures, "n_of", "left_out", "ci95"]
    assert metrics["spatial"]["n_of"]["m_vIoU"] == metrics["spatial"]["left_out"]["m_vIoU"] == 1
    assert metrics["st"]["ci95"]["AP@0.5"] is None  # one video
    assert (scores["unknown_ids"], scores["missing"]) == ([], 0)


def test_hand_worked_scores(tmp_path: Path) -> None:
    """Time: 5 of 15 s. Spatial: dog 1/2 at one of two times, pot unnamed: 0.25 / (2 gold + 0 surplus)."""
    completions = {
        IDS[0]: "<answer><object>A dog</object><when>[9, 19]</when></answer>",
        IDS[1]: "<answer><object>a dog</object><where>\n4: [0, 0, 50, 100]\nfoo\n</where></answer>",
    }
    first, second, *others = score(tmp_path, completions)["questions"]
    assert first["rewards"]["temporal"] == first["tiou"] == pytest.approx(1 / 3)
    assert first["rewards"]["total"] == pytest.approx(4 / 3)
    assert second["viou"] == pytest.approx(0.125)
    assert second["rewards"] == {
        "format": 0.0,
        "object": pytest.approx(2 / 3),
        "temporal": None,
        "spatial": pytest.approx(0.125),
        "total": pytest.approx(1 / 3 + 0.0625),
    }
    assert sum(second["problems"].values()) == 1
    assert {q["rewards"]["total"] for q in others} == {0.0}


def test_missing_and_unknown_ids_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    completions = gold()
    del completions[IDS[3]]
    completions |= {"nobody/0/st/0": "hello", "": "x"}
    scores = score(tmp_path, completions)
    assert scores["unknown_ids"] == ["nobody/0/st/0", ""]
    assert scores["missing"] == 1
    left_behind = scores["questions"][3]
    assert (left_behind["tiou"], left_behind["first_tiou"], left_behind["rewards"]["total"]) == (0.0, 0.0, 0.0)
    assert scores["metrics"]["temporal"]["m_tIoU"] == pytest.approx(200 / 3)
    assert "1 without a prediction" in capsys.readouterr().out


def test_the_order_of_predictions_does_not_matter(tmp_path: Path) -> None:
    completions = gold()
    completions[IDS[0]] = "<answer><object>A dog</object><when>[4, 8]</when></answer>"
    backwards = dict(reversed(completions.items()))
    assert score(tmp_path, completions) == score(tmp_path, backwards)


def test_all_real_gold_answers_score_one(tmp_path: Path, shared_data: Path) -> None:
    annotations = shared_data / "r_avst_dev_QA.json"
    completions = {q.id: q.gold_text for q in load_annotations(annotations)}
    predictions, out = write_predictions(tmp_path / "p.jsonl", completions), tmp_path / "s.json"
    paths = ["--annotations", str(annotations), "--predictions", str(predictions), "--out", str(out)]
    vectors = shared_data / "r_avst_train_object_vectors_googlenews300.bin"
    assert main(["score", *paths, "--word-vectors", str(vectors)]) == 0
    questions = json.loads(out.read_text())["questions"]
    imperfect = [q for q in questions if {v for k, v in q["rewards"].items() if k != "total"} - {None, 1.0}]
    assert len(questions) == 777
    assert [q["id"] for q in imperfect] == ["8hSEus9jvHc/0/spatial/0"]
    assert imperfect[0]["rewards"] | {"total": 0} == {
        "format": 0.0,
        "object": 1.0,
        "temporal": None,
        "spatial": None,
        "total": 0,
    }


def test_neither_torch_nor_av_is_imported(tmp_path: Path) -> None:
    predictions = write_predictions(tmp_path / "p.jsonl", gold())
    code = (
        "import sys; from avst.cli import main; status = main(sys.argv[1:]); "
        "sys.exit(status or sorted({'torch', 'transformers', 'av', 'gensim'} & set(sys.modules)))"
    )
    paths = ["--annotations", SMALL, "--predictions", predictions, "--out", tmp_path / "s.json"]
    done = subprocess.run([sys.executable, "-c", code, "score", *map(str, paths)], capture_output=True, text=True)
    assert done.stderr.strip() in ("", "[]")


# ---- what is printed ------------------------------------------------------------------------------------------------


def test_the_table_and_its_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    score(tmp_path, gold(), "--tables", str(tmp_path / "tables"))
    printed = capsys.readouterr().out
    for text in (
        "Table 2",
        "Table 3",
        "whole clip",
        "whole frame",
        "most frequent name",
        "\n  skill  ",
        "(no --videos)",
    ):
        assert text in printed
    assert (tmp_path / "tables" / "tables.txt").read_text(encoding="utf-8") in printed
    assert json.loads((tmp_path / "tables" / "tables.json").read_text(encoding="utf-8"))["records"]
    assert (tmp_path / "tables" / "tables.csv").read_text(encoding="utf-8").startswith("table,task,row,")


def test_explain_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    completions = gold()
    completions[IDS[1]] = "<answer><object>a cat</object><where>\n4: [0, 0, 50, 100]\nfoo\n</where></answer>"
    score(tmp_path, completions, "--explain", IDS[1])
    printed = capsys.readouterr().out.split("Table 2")[0]
    assert printed.startswith(f"{IDS[1]}  total 0  What visible object(s)")
    assert "temporal     does not apply" in printed
    assert "object       0.0000  x 0.5" in printed
    assert "'a cat'" in printed  # the object reward says which names it compared
    assert IDS[0] not in printed
    score(tmp_path, completions, "--explain")
    printed = capsys.readouterr().out
    assert all(f"{question_id}  total " in printed for question_id in IDS)


def test_explain_of_an_unknown_question(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "'nobody'" in fails(tmp_path, capsys, gold(), "--explain", "nobody")


# ---- rewards of one's own -------------------------------------------------------------------------------------------

MINE = """
def short(prompts, completions, completion_ids, **columns):
    return [1.0 if len(c[0]["content"]) < 100 else 0.0 for c in completions]
"""


def test_a_reward_from_a_file_with_a_weight_for_one_task(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    plain = score(tmp_path, gold())["questions"]
    more = score(tmp_path, gold(), "--rewards", f"{tmp_path / 'mine.py'}:short=temporal:0.25")["questions"]
    for before, after in zip(plain, more, strict=True):
        asked = before["task"] == "temporal"
        assert after["rewards"].pop("short") == (1.0 if asked else None)
        assert after["rewards"].pop("total") == before["rewards"].pop("total") + (0.25 if asked else 0.0)
        assert after == before


def test_a_recipes_rewards_replace_the_default(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    recipe = tmp_path / "recipe.yaml"
    rewards = "rewards:\n  brevity: {use: './mine.py:short', weight: {st: 2.0}}\n"
    recipe.write_text(f"model: {{path: somewhere}}\n{rewards}")
    questions = score(tmp_path, gold(), "--recipe", str(recipe))["questions"]
    assert [q["rewards"] for q in questions[:2]] == [{"brevity": None, "total": 0.0}] * 2
    assert questions[2]["rewards"] == {"brevity": 0.0, "total": 0.0}


@pytest.mark.parametrize(
    ("reward", "says"),
    [
        ("rewards.temporal:temporal_iuo", "temporal_iou"),
        ("./absent.py:f", "absent.py"),
        ("rewards.temporal:temporal_iou=much", "'much'"),
        ("rewards.temporal:temporal_iou=tempral:1", "temporal"),
    ],
)
def test_a_reward_that_cannot_be_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], reward: str, says: str
) -> None:
    assert says in fails(tmp_path, capsys, gold(), "--rewards", reward)


def test_a_reward_that_raises_names_itself_and_the_question(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.py").write_text(
        "def bad(prompts, completions, completion_ids, **columns):\n    return [1.0, 2.0]\n"
    )
    message = fails(tmp_path, capsys, gold(), "--rewards", f"{tmp_path / 'bad.py'}:bad")
    assert "'bad'" in message
    assert IDS[0] in message


def test_a_place_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    predictions = write_predictions(tmp_path / "p.jsonl", gold())
    (tmp_path / "taken").mkdir()
    for out in (tmp_path / "taken", predictions / "scores.json"):
        paths = ["--annotations", str(SMALL), "--predictions", str(predictions), "--out", str(out)]
        assert main(["score", *paths]) == 1
        assert f"{out}: cannot be written" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["p.jsonl", "taken"]


# ---- boxes in the model's space -------------------------------------------------------------------------------------


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """The two videos of the small file, silent and short: only their size is asked for."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for name, size in {"street": (400, 200), "harbour": (64, 64)}.items():
        with av.open(str(folder / f"{name}.mp4"), "w") as container:
            stream = container.add_stream("libx264", rate=2)
            stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
            for _ in range(4):
                frame = av.VideoFrame.from_ndarray(np.zeros((size[1], size[0], 3), np.uint8), format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    return folder


def test_model_space_is_turned_into_source_pixels(
    tmp_path: Path, videos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model saw frames of half the width and a quarter of the height; its gold boxes are shrunk alike."""
    import avst.prompt

    seen: list[str] = []

    def space_for_video(path: Path, settings: object) -> Space:
        seen.append(path.stem)
        assert settings is None
        return Space(source=(400, 200), model=(200, 50))

    monkeypatch.setattr(avst.prompt, "space_for_video", space_for_video)
    completions = gold()
    inside = "<object>Two men</object><when>[10, 12]</when><where>\n10: [5, 2.5, 25, 22.5]\n10: [30, 2.5, 45, 22.5]\n"
    completions[IDS[2]] = f"<answer>{inside}11: [5, 2.5, 25, 22.5]\n</where></answer>"
    scores = score(tmp_path, completions, "--videos", str(videos), "--space", "model")
    assert scores["questions"][2]["viou"] == pytest.approx(1.0)
    assert scores["questions"][1]["viou"] < 0.2  # left as gold in source pixels, it is off in model space
    assert sorted(seen) == ["harbour", "street"]


def test_model_space_follows_from_the_recipe(tmp_path: Path, videos: Path) -> None:
    """Frames of at most 112x56 px; the source is 400x200, so the men's boxes shrink by 400/112 and 200/56."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("model: {path: x}\nmedia: {min_pixels: 784, max_pixels: 6272}\n")
    rows = {10: [(10, 10, 50, 90), (60, 10, 90, 90)], 11: [(10, 10, 50, 90)]}
    lines = [
        f"{t}: [{x1 * 0.28:g}, {y1 * 0.28:g}, {x2 * 0.28:g}, {y2 * 0.28:g}]" for t in rows for x1, y1, x2, y2 in rows[t]
    ]
    text = "<answer><object>Two men</object><when>[10, 12]</when><where>\n" + "\n".join(lines) + "\n</where></answer>"
    more = ["--videos", str(videos), "--space", "model", "--recipe", str(recipe)]
    scores = score(tmp_path, gold() | {IDS[2]: text}, *more)
    assert scores["questions"][2]["problems"] == {}
    assert scores["questions"][2]["viou"] == pytest.approx(1.0)


def test_the_whole_frame_is_that_of_the_video(tmp_path: Path, videos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two men in a frame of 400x200: 3200/80000, halved at 10 s. Without the video the frame would be 200x100."""
    score(tmp_path, gold(), "--videos", str(videos), "--tables", str(tmp_path / "t"))
    records = json.loads((tmp_path / "t" / "tables.json").read_text(encoding="utf-8"))["records"]
    frame = next(r for r in records if (r["row"], r["task"], r["figure"]) == ("whole frame", "st", "m_vIoU"))
    assert frame["value"] == pytest.approx(100 * (0.04 / 2 + 0.04) / 2)
    assert "annotated in" not in capsys.readouterr().out


def test_a_missing_video_matters_in_model_space_only(
    tmp_path: Path, videos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (videos / "harbour.mp4").unlink()
    assert "harbour" in fails(tmp_path, capsys, gold(), "--videos", str(videos), "--space", "model")
    score(tmp_path, gold(), "--videos", str(videos))
    assert "annotated in 1 videos that cannot be read" in capsys.readouterr().out


def test_model_space_needs_the_videos(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--videos" in fails(tmp_path, capsys, gold(), "--space", "model")
