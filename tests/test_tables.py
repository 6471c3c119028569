"""The trivial answers, the tables and their three forms."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest

from avst import tables, trivial
from avst.metrics import QuestionResult, measure, summarise
from avst.tasks.r_avst import load_annotations
from avst.types import Answer, Interval, Question
from avst.word_vectors import WordVectors

SMALL = Path(__file__).parent / "golden" / "r_avst_small.json"
WORDS = WordVectors()  # equal names only


@pytest.fixture(scope="module")
def questions() -> list[Question]:
    return load_annotations(SMALL)


def comparison(questions: list[Question], answers: list[Answer], *notes: str) -> tables.Comparison:
    results = [measure(q, a, WORDS) for q, a in zip(questions, answers, strict=True)]
    trivials = tables.trivial_results(questions, WORDS, trivial.annotated_extent(questions))
    return tables.compare({"model": results}, trivials, notes)


# ---- trivial answers ------------------------------------------------------------------------------------------------


def test_whole_clip_by_hand(questions: list[Question]) -> None:
    answer = trivial.whole_clip(questions[0])
    assert answer.objects[0].intervals == (Interval(0.0, 20.0),)
    assert measure(questions[0], answer, WORDS).tiou == 0.5  # 10 of 20 s


def test_whole_frame_by_hand(questions: list[Question]) -> None:
    """The extent is 200x100. Dog: half of it at both visible times; pot: 1600 of 20000 px. Nothing at 5 s, unseen."""
    assert trivial.annotated_extent(questions)["street"] == (200.0, 100.0)
    answer = trivial.whole_frame(questions[1], (200.0, 100.0))
    assert answer.objects[0].track.times_s == (4.0, 6.0)
    assert measure(questions[1], answer, WORDS).viou == pytest.approx((0.5 + 0.08) / 2)


def test_whole_frame_gives_two_men_of_one_second_one_box(questions: list[Question]) -> None:
    """Frame 90x90 = 8100 px. 10 s: the better of 3200 and 2400 px, over two boxes; 11 s: 3200 px."""
    answer = trivial.whole_frame(questions[2], (90.0, 90.0))
    assert answer.objects[0].track.times_s == (10.0, 11.0)
    assert measure(questions[2], answer, WORDS).viou == pytest.approx((3200 / 8100 / 2 + 3200 / 8100) / 2)


def test_most_frequent_name_counts_questions_and_spellings_alike(questions: list[Question]) -> None:
    assert trivial.most_frequent_name(questions) == "A dog"  # all names stand in one question: the first written
    ship = questions[5]
    assert trivial.most_frequent_name([*questions, ship]) == "A ship"
    assert trivial.most_frequent_name(q for q in questions if q.task == "temporal") == ""


def test_an_unknown_frame_is_an_error_where_boxes_are_asked_for(questions: list[Question]) -> None:
    with pytest.raises(trivial.AvstError, match="street/0/spatial/0: the frame size"):
        tables.trivial_results(questions, WORDS, {})


def test_trivial_answers_on_the_real_annotations(shared_data: Path) -> None:
    """Whole clip: against a second reading of the file by a regular expression."""
    path = shared_data / "r_avst_dev_QA.json"
    questions = load_annotations(path)
    plain = []
    for video in json.loads(path.read_text(encoding="utf-8")):
        for event in video["annotation"]:
            for item in event.get("AV Temporal Reasoning", []):
                start, end = map(float, re.findall(r"<when>\[(.*?), (.*?)\]", item["A"])[0])
                plain.append((min(end, video["duration"]) - start) / max(end, video["duration"]))
    results = tables.trivial_results(questions, WORDS, trivial.annotated_extent(questions))
    summary = summarise(results[trivial.WHOLE_CLIP])["temporal"]
    assert summary["m_tIoU"] == pytest.approx(100 * np.mean(plain))
    assert summary["R1@0.7"] == pytest.approx(100 * np.mean(np.array(plain) >= 0.7))
    assert summary["m_tIoU"] == pytest.approx(61.393, abs=1e-3)
    frames = summarise(results[trivial.WHOLE_FRAME])
    assert frames["spatial"]["m_vIoU"] > 30  # the paper's best model: 3.87
    assert frames["st"]["m_vIoU"] > 40  # the paper's best model: 17.74


# ---- rows -----------------------------------------------------------------------------------------------------------


def test_each_row_shows_what_it_is_the_measure_of(questions: list[Question]) -> None:
    rows = {row.name.strip(): row for row in comparison(questions, [q.gold for q in questions]).rows}
    assert list(rows) == ["model", "skill of model", "whole clip", "whole frame", "most frequent name"]
    shown = {name: {figure for _, figure in row.cells} for name, row in rows.items()}
    assert shown["whole clip"] == {"m_tIoU", "R1@0.3", "R1@0.5", "R1@0.7"}
    assert shown["whole frame"] == {"m_vIoU", "AP@0.3", "AP@0.5"}
    assert shown["most frequent name"] == {"object_accuracy", "object_f1"}
    assert shown["model"] == shown["skill of model"] == set(tables.TRIVIAL_OF)


def test_skill_by_hand(questions: list[Question]) -> None:
    """Whole clip: 10/20, 8/8 and 2/8, mean 58.33%. The model: 1, 1 and 1/4, mean 75%: it wins 0.4 of what is left."""
    answers = [q.gold for q in questions]
    answers[4] = trivial.whole_clip(questions[4])
    rows = {row.name.strip(): row for row in comparison(questions, answers).rows}
    assert rows["whole clip"].cells["temporal", "m_tIoU"].value == pytest.approx(100 * 1.75 / 3)
    assert rows["model"].cells["temporal", "m_tIoU"].value == pytest.approx(75.0)
    assert rows["skill of model"].cells["temporal", "m_tIoU"].value == pytest.approx(40.0)
    assert rows["skill of model"].cells["spatial", "m_vIoU"].n == 1


def test_the_trivial_answer_has_no_skill_in_any_draw(questions: list[Question]) -> None:
    rows = comparison(questions, [trivial.whole_clip(q) for q in questions]).rows
    cell = rows[1].cells["temporal", "m_tIoU"]
    assert cell.value == pytest.approx(0.0)
    assert cell.ci95 == (pytest.approx(0.0), pytest.approx(0.0))  # paired: the same videos for both


def test_skill_is_negative_below_the_trivial_answer_and_absent_where_nothing_is_left() -> None:
    both = np.array([[20.0, 60.0], [60.0, 20.0], [100.0, 100.0]])
    assert tables.skill(both)[:2] == pytest.approx([-100.0, 50.0])
    assert np.isnan(tables.skill(both)[2])


def test_several_models_share_the_trivial_rows(questions: list[Question]) -> None:
    gold = [measure(q, q.gold, WORDS) for q in questions]
    nothing = [measure(q, Answer(), WORDS) for q in reversed(questions)]
    trivials = tables.trivial_results(questions, WORDS, trivial.annotated_extent(questions))
    both = tables.compare({"before": nothing, "after": gold}, trivials)
    assert [row.name.strip() for row in both.rows][:4] == ["before", "skill of before", "after", "skill of after"]
    assert both.rows[0].cells["st", "m_tIoU"].value == 0.0
    assert both.rows[3].cells["st", "m_tIoU"].value == pytest.approx(100.0)


# ---- forms ----------------------------------------------------------------------------------------------------------


def test_text_holds_values_intervals_counts_and_notes(questions: list[Question]) -> None:
    text = tables.as_text(comparison(questions, [q.gold for q in questions], "a footnote"))
    spatial, st, temporal, notes = text.split("\n\n")
    assert spatial.startswith("Table 2: Audio-visual spatial reasoning (2 questions)\n")
    assert "spatio-temporal reasoning (1 question)" in st
    assert temporal.startswith("Table 3: ")
    lines = temporal.splitlines()
    assert lines[1].split() == ["m_tIoU", "R1@0.3", "R1@0.5", "R1@0.7"]
    assert lines[3].split() == ["model", "100.00", "100.00", "100.00", "100.00"]
    assert lines[4].split() == ["[100,", "100]"] * 4
    assert lines[8].split() == ["whole", "clip", "58.33", "66.67", "66.67", "33.33"]
    assert lines[-1].split() == ["questions", "in", "figure", "3", "3", "3", "3"]
    assert spatial.splitlines()[-1].split()[3:] == ["2", "2", "1", "1", "1"]
    assert notes == "* a footnote\n"


def test_a_task_without_questions_has_no_block(questions: list[Question]) -> None:
    only = [q for q in questions if q.task == "temporal"]
    text = tables.as_text(comparison(only, [q.gold for q in only]))
    assert "Table 3" in text
    assert "Table 2" not in text


def test_csv_and_json_say_the_same(questions: list[Question]) -> None:
    made = comparison(questions, [trivial.whole_clip(q) for q in questions], "a footnote")
    as_json = json.loads(json.dumps(tables.as_json(made), allow_nan=False))
    rows = list(csv.DictReader(io.StringIO(tables.as_csv(made))))
    assert as_json["notes"] == ["a footnote"]
    assert len(rows) == len(as_json["records"]) == 2 * 16 + 8 + 6 + 2
    for row, record in zip(rows, as_json["records"], strict=True):
        assert {k: row[k] for k in ("table", "task", "row", "kind", "figure")} == {
            k: record[k] for k in row if k in ("table", "task", "row", "kind", "figure")
        }
        for key in ("value", "low", "high", "n"):
            assert row[key] == "" if record[key] is None else float(row[key]) == pytest.approx(record[key])
    whole = next(r for r in as_json["records"] if (r["row"], r["task"], r["figure"]) == ("model", "temporal", "m_tIoU"))
    assert whole["value"] == pytest.approx(100 * 1.75 / 3)
    assert (whole["table"], whole["n"]) == ("table 3", 3)


def test_a_figure_with_nothing_to_score_is_a_dash_and_null(questions: list[Question]) -> None:
    unseen = [questions[5]]
    results: list[QuestionResult] = [measure(q, q.gold, WORDS) for q in unseen]
    made = tables.compare({"model": results}, tables.trivial_results(unseen, WORDS, {"harbour": (10.0, 10.0)}))
    assert made.rows[0].cells["spatial", "m_vIoU"].value is None
    assert tables.as_text(made).splitlines()[3].split() == ["model", "100.00", "100.00", "–", "–", "–"]
    assert ",m_vIoU,,,,0\n" in tables.as_csv(made)
