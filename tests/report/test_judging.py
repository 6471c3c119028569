"""What the page shows of an answer is what the rewards saw in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from avst.report.judging import Judge, seconds_of, show_answer
from avst.report.write import script
from avst.types import Answer, AnswerObject, Interval, Question, Space, Track
from avst.word_vectors import WordVectors
from rewards.spatial import spatial_iou
from tests.report.report_world import World, read, space_of

BOX = (10.0, 10.0, 30.0, 30.0)
HALF = (10.0, 10.0, 20.0, 30.0)  # half of BOX


def test_seconds_are_the_terms_of_the_reward() -> None:
    gold = Track((1.0, 2.0, 3.0, 4.0), (BOX, BOX, (0, 0, 0, 0), BOX))
    predicted = Track((1.4, 2.6, 4.0), (HALF, BOX, HALF))
    # 1 pairs with 1.4 (0.4 away); 2.6 is 0.6 from 2, too far; 3 is not visible and asks for nothing
    assert seconds_of(predicted, gold) == [[1.0, 1.4, 0.5], [2.0, None, 0.0], [4.0, 4.0, 0.5]]
    answer, wanted = (Answer((AnswerObject("dog", (), t),)) for t in (predicted, gold))
    (reward,) = spatial_iou([], [], [], task=["spatial"], answer=[answer], gold=[wanted], word_vectors=WordVectors())
    assert reward == pytest.approx((0.5 + 0.0 + 0.5) / 3)


def test_an_answer_says_whom_each_object_stands_for() -> None:
    gold = Answer(
        (AnswerObject("dog", (Interval(1, 2),)), AnswerObject("cat", (Interval(3, 4),), Track((3.0,), (BOX,))))
    )
    question = Question("v/0/st/0", "st", "?", "v", 5.0, gold, "")
    answer = Answer((AnswerObject("Cat", (Interval(3, 5),), Track((3.2,), (HALF,))), AnswerObject("bus")))
    shown = show_answer(question, answer, WordVectors(), boxes_unknown=False)
    cat, bus = shown["objects"]
    assert (cat["gold"], cat["speaks"], cat["track"]) == (1, 1, [[3.2, *HALF]])
    assert "gold" not in bus
    assert "speaks" not in bus
    assert shown["seconds"] == [[1, 3.0, 3.2, 0.5]]
    hidden = show_answer(question, answer, WordVectors(), boxes_unknown=True)
    assert hidden["seconds"] == []
    assert hidden["objects"][0]["track"] == []


def test_a_lone_object_speaks_whatever_its_name() -> None:
    gold = Answer((AnswerObject("dog", (Interval(1, 2),)),))
    question = Question("v/0/temporal/0", "temporal", "?", "v", 5.0, gold, "")
    shown = show_answer(question, Answer((AnswerObject("car", (Interval(1, 2),)),)), WordVectors(), False)
    assert shown["objects"][0]["speaks"] == 0
    assert "gold" not in shown["objects"][0]


def test_a_degenerate_answer_is_cut_and_counted() -> None:
    question = Question("v/0/temporal/0", "temporal", "?", "v", 5.0, Answer((AnswerObject("dog"),)), "")
    shown = show_answer(question, Answer((AnswerObject("x"),) * 5000), WordVectors(), False)
    assert len(shown["objects"]) + shown["hidden_objects"] == 5000
    assert len(script("q/0", shown)) < 20_000


def test_rewards_of_the_run_are_found_again_with_their_reasons(world: World) -> None:
    judge = Judge(world.recipe)
    rows = next(world_groups(world, "spatial"))
    question = next(q for q in world.questions("train") if q.id == rows[0]["question_id"])
    shown = judge.group(question, rows, [space_of(question)] * len(rows))
    assert judge.different == 0
    for row, one in zip(rows, shown, strict=True):
        assert one["total"] == row["total"]
        assert one["rewards"]["spatial"] == row["reward_spatial"]
        assert one["advantage"] == row["advantage"]
        seconds = [s[3] for s in one["seconds"]]
        if len(question.gold.objects) == 1 and len(one["objects"]) <= 1:
            assert sum(seconds) / len(seconds) == pytest.approx(row["reward_spatial"], abs=1e-3)
    assert "mean box IoU" in shown[0]["reasons"]["spatial"][0]


def test_a_reward_that_is_another_today_is_shown_beside_the_old_one(world: World) -> None:
    judge = Judge(world.recipe)
    rows = [dict(row) for row in next(world_groups(world, "temporal"))]
    rows[0]["reward_temporal"] = 0.125
    question = next(q for q in world.questions("train") if q.id == rows[0]["question_id"])
    shown = judge.group(question, rows, [None] * len(rows))
    assert judge.different == 1
    assert shown[0]["rewards"]["temporal"] == 0.125
    assert shown[0]["again"].keys() == {"temporal"}


def test_without_reasons_no_reward_runs(world: World) -> None:
    judge = Judge(world.recipe, reasons=False)
    rows = next(world_groups(world, "st"))
    question = next(q for q in world.questions("train") if q.id == rows[0]["question_id"])
    shown = judge.group(question, rows, [space_of(question)] * len(rows))
    assert judge.scorer is None
    assert all(one["reasons"] == {} for one in shown)
    assert [one["total"] for one in shown] == [row["total"] for row in rows]


def test_boxes_of_an_unknown_frame_are_not_guessed(world: World) -> None:
    rows = next(world_groups(world, "spatial"))
    question = next(q for q in world.questions("train") if q.id == rows[0]["question_id"])
    shown = Judge(world.recipe).group(question, rows, [None] * len(rows))
    assert all(one["boxes_unknown"] and one["reasons"] == {} for one in shown)
    assert [one["total"] for one in shown] == [row["total"] for row in rows]


def test_boxes_come_out_in_source_pixels(world: World, report: Path) -> None:
    """A box of the training run, from the parquet's text through the model's 80 x 56 frame, worked by hand."""
    index = read(report / "data" / "index.js")
    for number, row in enumerate(index["questions"]):
        record = read(report / "data" / "q" / f"{number}.js")
        assert record["id"] == row[0]
        for group in record["groups"]:
            for one in group["completions"]:
                for thing in one["objects"]:
                    for t, x1, *_ in thing["track"]:
                        line = next(
                            s
                            for s in one["text"].splitlines()
                            if s.startswith(f"{t}: [") and float(s.split("[")[1].split(",")[0]) * 2 == x1
                        )
                        assert line  # 160 px of source over 80 px of model


def world_groups(world: World, task: str) -> Any:
    from avst.report.run import open_run

    return (rows for rows in open_run(world.run).groups() if rows[0]["task"] == task)


def test_spaces_of_evaluations_are_their_own() -> None:
    from avst.report.collect import space_of as said

    assert said({"space": [10, 20, 30, 40]}) == Space((10, 20), (30, 40))
    assert said({"space": Space((1, 2), (3, 4))}) == Space((1, 2), (3, 4))
    assert said({}) is None
    assert said({"space": [0, 1, 2, 3]}) is None
