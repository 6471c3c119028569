"""The annotation file -> questions, each defect of it as one line, and Box 2's prompt."""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from avst.answer import parse
from avst.errors import AvstError
from avst.tasks.r_avst import SYSTEM_PROMPT, load_annotations, prompt_text, read_videos
from avst.types import Interval

SMALL = Path(__file__).parents[1] / "golden" / "r_avst_small.json"


def small() -> Any:
    return json.loads(SMALL.read_text(encoding="utf-8"))


def test_small_file_whole() -> None:
    questions = load_annotations(SMALL)
    assert [q.id for q in questions] == [
        "street/0/temporal/0",
        "street/0/spatial/0",
        "street/1/st/0",
        "harbour/0/temporal/0",
        "harbour/0/temporal/1",
        "harbour/0/spatial/0",
    ]
    assert [q.task for q in questions] == ["temporal", "spatial", "st", "temporal", "temporal", "spatial"]
    pots = questions[1]
    assert pots.gold_names == ("A dog", "a large, round pot")  # a gold name's own commas separate nothing
    assert pots.gold.objects[0].track.times_s == (4.0, 5.0, 6.0)
    assert pots.gold.objects[1].track.boxes_px == ((0.0, 50.0, 40.0, 90.0),)
    assert questions[2].gold.objects[0].intervals == (Interval(10.0, 12.0),)
    assert (questions[3].video, questions[3].duration_s) == ("harbour", 8.0)
    assert prompt_text(questions[4]) == "When is the moment A gull makes sound and is visible?"


def test_real_annotations_against_a_plain_reading(shared_data: Path) -> None:
    path = shared_data / "r_avst_dev_QA.json"
    questions = load_annotations(path)
    keys = {"AV Temporal Reasoning": "temporal", "AV Spatial Reasoning": "spatial", "AV ST Reasoning": "st"}
    expected = {}
    for video in json.loads(path.read_text(encoding="utf-8")):
        for i, event in enumerate(video["annotation"]):
            for key, task in keys.items():
                for j, item in enumerate(event.get(key, [])):
                    expected[f"{video['video_name']}/{i}/{task}/{j}"] = (item["Q"], item["A"], video["duration"])
    assert {q.id: (q.text, q.gold_text, q.duration_s) for q in questions} == expected
    assert len(questions) == len(expected) == 777
    assert Counter(q.task for q in questions) == {"temporal": 320, "spatial": 325, "st": 132}
    assert all(q.gold_text.count("<object>") == len(q.gold.objects) for q in questions)


DEFECTS: list[tuple[str, Callable[[Any], object], list[str]]] = [
    ("entry is text", lambda d: d.insert(0, "street"), ["entry 0", "must be an object"]),
    ("no name", lambda d: d[0].pop("video_name"), ["entry 0", '"video_name"', "is missing"]),
    ("name is a number", lambda d: d[0].update(video_name=7), ["entry 0", '"video_name"', "but is 7"]),
    ("name climbs", lambda d: d[0].update(video_name="../street"), ["entry 0", '"video_name"', "'../street'"]),
    ("absolute name", lambda d: d[1].update(video_name="/etc/passwd"), ["entry 1", '"video_name"', "/etc/passwd"]),
    ("half a character", lambda d: d[1].update(video_name="a\ud800"), ["entry 1", '"video_name"', "surrogate"]),
    ("same video twice", lambda d: d.append(d[0]), ["street", '"video_name"', "entry 0", "entry 2"]),
    ("no duration", lambda d: d[1].pop("duration"), ["harbour", '"duration"', "is missing"]),
    ("duration is text", lambda d: d[1].update(duration="8"), ["harbour", '"duration"', 'but is "8"']),
    ("duration 0", lambda d: d[1].update(duration=0), ["harbour", '"duration"', "but is 0"]),
    ("duration NaN", lambda d: d[1].update(duration=float("nan")), ["harbour", '"duration"', "but is NaN"]),
    ("duration is a bool", lambda d: d[1].update(duration=True), ["harbour", '"duration"', "but is true"]),
    ("annotation is an object", lambda d: d[1].update(annotation={}), ["harbour", '"annotation"', "an object"]),
    ("event is a list", lambda d: d[1]["annotation"].append([]), ["harbour/1", '"annotation"', "but is a list"]),
    (
        "misspelt task",
        lambda d: d[1]["annotation"][0].update({"AV temporal reasoning": []}),
        ["harbour/0", '"AV temporal reasoning"', 'did you mean "AV Temporal Reasoning"'],
    ),
    (
        "questions are no list",
        lambda d: d[1]["annotation"][0].update({"AV Spatial Reasoning": {"Q": "?", "A": "!"}}),
        ["harbour/0", '"AV Spatial Reasoning"', "but is an object"],
    ),
    ("question is text", lambda d: _list(d).append("When?"), ["harbour/0/temporal/2", "object with Q and A"]),
    ("no Q", lambda d: _list(d)[1].pop("Q"), ["harbour/0/temporal/1", '"Q"', "is missing"]),
    ("empty Q", lambda d: _list(d)[1].update(Q="  "), ["harbour/0/temporal/1", '"Q"', "not empty"]),
    ("A is null", lambda d: _list(d)[1].update(A=None), ["harbour/0/temporal/1", '"A"', "but is null"]),
    ("A is prose", lambda d: _list(d)[1].update(A="from 1 to 3"), ["harbour/0/temporal/1", '"A"', "no_answer"]),
    ("A without when", lambda d: _gold(d, "<object>x</object>"), ["harbour/0/temporal/1", '"A"', "no <when>"]),
    ("end before start", lambda d: _gold(d, _when("[3.0, 2.0]")), ["harbour/0/temporal/1", '"A"', "bad_interval"]),
    ("past the end", lambda d: _gold(d, _when("[3.0, 9.5]")), ["harbour/0/temporal/1", '"A"', "9.5 s", "(8 s)"]),
]


def _list(data: Any) -> Any:
    return data[1]["annotation"][0]["AV Temporal Reasoning"]


def _gold(data: Any, inside: str) -> None:
    _list(data)[1]["A"] = f"<answer>\n{inside}\n</answer>"


def _when(interval: str) -> str:
    return f"<object>A gull</object>\n<when>{interval}</when>"


@pytest.mark.parametrize(("change", "expected"), [d[1:] for d in DEFECTS], ids=[d[0] for d in DEFECTS])
def test_a_defect_is_one_line_with_file_question_and_field(
    tmp_path: Path, change: Callable[[Any], object], expected: list[str]
) -> None:
    data = copy.deepcopy(small())
    change(data)
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(AvstError) as caught:
        load_annotations(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    for part in expected:
        assert part in message


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'[{"video_name": "a",\n  "duration": }]', "broken JSON in line 2, column 15"),
        (b"", "broken JSON in line 1, column 1"),
        (b'{"video_name": "a"}', "must hold a list of videos, but is an object"),
        (b"[]", "holds no questions"),
        (b'[{"video_name": "a", "duration": 1, "annotation": []}]', "holds no questions"),
        (b"[" * 100_000, "JSON that cannot be read"),
        (b"[\xff]", "not UTF-8 text (byte 1)"),
    ],
)
def test_a_broken_file_is_one_line(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "broken.json"
    path.write_bytes(content)
    with pytest.raises(AvstError, match=r"broken\.json: ") as caught:
        load_annotations(path)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.json", tmp_path):
        with pytest.raises(AvstError, match="cannot be read") as caught:
            load_annotations(path)
        assert str(path) in str(caught.value)


def test_with_a_report_only_what_is_spoilt_is_left_out(tmp_path: Path) -> None:
    data = small()
    _list(data)[0]["A"] = 5
    data.append(copy.deepcopy(data[0]))
    data[0]["annotation"][1]["comment"] = "a user's own key is no defect"
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    seen: list[tuple[str, str, str]] = []
    questions = load_annotations(path, lambda kind, where, field, message: seen.append((kind, where, field)))
    assert [q.id for q in questions] == [q.id for q in load_annotations(SMALL) if q.id != "harbour/0/temporal/0"]
    assert seen == [("wrong_type", "harbour/0/temporal/0", "A"), ("duplicate_video", "street", "video_name")]
    assert [e.position for e in read_videos(path, lambda *_: None)] == [0, 1]


def test_an_interval_may_end_less_than_a_second_after_the_video(tmp_path: Path) -> None:
    """Durations are rounded: on the real annotations two intervals end 0.03 s late."""
    data = small()
    _gold(data, _when("[3.0, 8.9]"))
    path = tmp_path / "late.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    assert load_annotations(path)[4].gold.objects[0].intervals == (Interval(3.0, 8.9),)


BOX_2 = """\
You are an expert in audio-visual video grounding. For each question, output within <answer></answer>: -
<object>: grounded object(s), e.g. ‘man’, ‘dog’, separated by commas - <when>: [start, end] in seconds, 1
decimal - <where>for each object by each second within the object appearing duration: timestamp: [x1, y1, x2,
y2] Only include tags <object>, <when>and <where>. No extra text. Example: <answer> <when>[10.0,20.5]</when>
<object>dog </object> <where> 10.0: [100,200,300,400] 11.0: [109,280,320,432] 12.0: [100,200,300,400] </where>
<object>cat </object> <where> 12.5: [50,60,150,160] 13.5: [55,62,140,150] </where> </answer>"""


def test_the_prompt_is_box_2_but_for_white_space() -> None:
    assert "".join(SYSTEM_PROMPT.split()) == "".join(BOX_2.split())


def test_box_2s_example_is_a_clean_answer() -> None:
    answer = parse(SYSTEM_PROMPT.split("Example:")[1])
    assert not answer.problems
    assert [o.name for o in answer.objects] == ["dog", "cat"]
    assert [o.intervals for o in answer.objects] == [(Interval(10.0, 20.5),)] * 2
    assert answer.objects[1].track.times_s == (12.5, 13.5)
    assert answer.objects[1].track.boxes_px == ((50, 60, 150, 160), (55, 62, 140, 150))
