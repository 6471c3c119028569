"""The answer grammar: hand-written cases, all real annotations, and texts made to break it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avst.answer import MAX_CHARS, PROBLEMS, has_visible_box, map_boxes, parse, parse_gold, render
from avst.tasks.r_avst import load_annotations
from avst.types import NOT_VISIBLE, Answer, AnswerObject, Interval, Task, Track
from tests.tag_soup import tag_soup

BOX2 = """<answer>
<when>[10.0,20.5]</when>
<object>dog </object>
<where>
10.0: [100,200,300,400]
11.0: [109,280,320,432]
</where>
<object>cat </object>
<where>
12.5: [50,60,150,160]
</where>
</answer>"""


def intervals(text: str) -> list[tuple[str, list[tuple[float, float]]]]:
    return [(o.name, [(i.start, i.end) for i in o.intervals]) for o in parse(text).objects]


def boxes(where: str) -> tuple[tuple[float, ...], ...]:
    return parse(f"<answer><object>x</object><where>{where}</where></answer>").objects[0].track.boxes_px


def problems(text: str) -> dict[str, int]:
    return dict(parse(text).problems)


def test_box_2_example_is_read_as_the_paper_means_it() -> None:
    answer = parse(BOX2)
    assert answer.problems == {}
    assert answer.tags == {"object", "when", "where"}
    assert answer.objects == (
        AnswerObject("dog", (Interval(10, 20.5),), Track((10, 11), ((100, 200, 300, 400), (109, 280, 320, 432)))),
        AnswerObject("cat", (Interval(10, 20.5),), Track((12.5,), ((50, 60, 150, 160),))),
    )


A, B, C = "<when>[0,1]</when>", "<when>[2,3]</when>", "<when>[4,5]</when>"
X, Y = "<object>x</object>", "<object>y</object>"


@pytest.mark.parametrize(
    ("inside", "expected"),
    [
        (X + A + B + Y, [("x", [(0, 1), (2, 3)]), ("y", [])]),  # object first: to the object before
        (X + Y + A, [("x", []), ("y", [(0, 1)])]),
        (A + X + Y + B + Y, [("x", [(0, 1)]), ("y", [(0, 1)]), ("y", [(2, 3)])]),  # when first: up to the next when
        (A + X + B, [("x", [(0, 1), (2, 3)])]),  # nothing after it: to the last object
        (A + B + X, [("x", [(0, 1), (2, 3)])]),  # before any object both hold for what comes
        (A + X + B + C + Y, [("x", [(0, 1), (2, 3)]), ("y", [(4, 5)])]),
        (A + X + "<when>bad</when>" + Y, [("x", [(0, 1)]), ("y", [])]),  # an unreadable when still ends the first
        ("<object>x, y</object>" + A, [("x", [(0, 1)]), ("y", [(0, 1)])]),  # comma names share
        (X + A + X, [("x", [(0, 1)]), ("x", [])]),  # equal names are not merged
    ],
)
def test_which_object_a_when_belongs_to(inside: str, expected: list) -> None:
    assert intervals(f"<answer>{inside}</answer>") == expected


@pytest.mark.parametrize(
    ("text", "counted"),
    [
        ("", {"no_answer": 1}),
        ("a man, from 3 to 5", {"no_answer": 1}),
        (f"<answer>{X}{A}</answer>", {}),
        (f"Sure!\n<answer>{X}{A}</answer>", {"text_outside": 1}),
        (f"<answer>{X} and {A}</answer> bye", {"text_outside": 2}),
        (f"<answer>{X}{A}", {"unclosed_tag": 1}),
        (f"<answer>{X}<when>[0,1]</answer>", {"unclosed_tag": 1}),
        (f"<answer><object>x{A}</answer>", {"unclosed_tag": 1}),
        (f"<answer>{X}</object>{A}</answer>", {"misplaced_tag": 1}),
        (f"<answer>{A}</answer>", {"misplaced_tag": 1}),
        (f"<answer><where>1:[1,2,3,4]</where>{X}{A}</answer>", {"misplaced_tag": 1}),
        (f"<answer>{X}{A}</answer><answer></answer>", {"misplaced_tag": 2}),
        (f"<answer>{X}<answer>{A}</answer>", {"unclosed_tag": 1, "misplaced_tag": 4, "text_outside": 1}),
        (f"<answer><b>{X}</b>{A}</answer>", {"unknown_tag": 2}),
        (f"<answer><Object>x</Object>{A}</answer>", {"unknown_tag": 2, "misplaced_tag": 1, "text_outside": 1}),
        (f"<answer>{X}<when>[5, 1]</when></answer>", {"bad_interval": 1}),
        (f"<answer>{X}<when>[-1, 1]</when></answer>", {"bad_interval": 1}),
        (f"<answer>{X}<when>[1, 1]</when></answer>", {"bad_interval": 1}),
        (f"<answer>{X}<when></when></answer>", {"bad_interval": 1}),
        (f"<answer>{X}<when>[1e0, 2]</when></answer>", {"bad_interval": 1}),
        (f"<answer>{X}<when>[1, 1234567890123]</when></answer>", {"bad_interval": 1}),
        (f"<answer>{X}<when>[1, 1234567.890123]</when></answer>", {"bad_interval": 1}),
        (f"<answer>{X}<when>[0, Infinity]</when></answer>", {"not_finite": 1}),
        (f"<answer>{X}<where>0:[1,2,nan,4]</where></answer>", {"not_finite": 1}),
        (f"<answer>{X}<where>-1:[1,2,3,4]\nt:[1,2,3,4]</where></answer>", {"bad_time": 2}),
        (f"<answer>{X}<where>0:[1,2,3]\n0:[3,2,1,4]\n0:[1,2,1,4]\nhello\n0:[0,0,0,4]</where></answer>", {"bad_box": 5}),
        (f"<answer>{X}<where>0:[1,2,3,4] 1:[1,2,3,4]</where></answer>", {"bad_box": 1}),
        (f"<answer>{X}<where></where></answer>", {}),
        ("<answer>" + " " * MAX_CHARS + "</answer>", {"unclosed_tag": 1, "too_long": 1}),
    ],
)
def test_problems_are_counted_under_their_reason(text: str, counted: dict[str, int]) -> None:
    assert problems(text) == counted


def test_one_bad_line_drops_only_itself() -> None:
    lines = "0.0: [1, 2, 3, 4]\n1.0: oops\n 2 :[ -5,-6.5 ,7,8 ]\r\n3:[0,0,0,0]\n4:[-0,0,0,-0.0]"
    assert boxes(lines) == ((1, 2, 3, 4), (-5, -6.5, 7, 8), NOT_VISIBLE, NOT_VISIBLE)
    assert math.copysign(1, boxes(lines)[3][0]) == 1


def test_unclosed_elements_are_read_up_to_the_next_tag() -> None:
    answer = parse("<answer><object>a dog<when>[0, 2]<where>1: [1, 2, 3, 4]\n</answer>")
    assert answer.objects == (AnswerObject("a dog", (Interval(0, 2),), Track((1,), ((1, 2, 3, 4),))),)
    assert answer.problems == {"unclosed_tag": 3}
    assert answer.tags == frozenset()


def test_unknown_tags_are_taken_out_of_a_name() -> None:
    assert [o.name for o in parse("<answer><object>a <b>big</b> dog</object></answer>").objects] == ["a big dog"]


@pytest.mark.parametrize(
    ("written", "gold_names", "names"),
    [
        ("a, b", (), ["a", "b"]),
        ("a,", (), ["a", ""]),
        ("", (), [""]),
        ("a large, round pot, a man", ("a large, round pot",), ["a large, round pot", "a man"]),
        ("A  Large,\nround pot, a man", ("a large, round pot",), ["A Large, round pot", "a man"]),
        ("a large, round, pot", ("a large, round pot",), ["a large", "round", "pot"]),
        ("x, y, x, y", ("x, y",), ["x, y", "x, y"]),
    ],
)
def test_commas(written: str, gold_names: tuple[str, ...], names: list[str]) -> None:
    assert [o.name for o in parse(f"<answer><object>{written}</object></answer>", gold_names).objects] == names


def test_all_real_gold_answers_come_back_as_written(shared_data: Path) -> None:
    questions = load_annotations(shared_data / "r_avst_dev_QA.json")
    assert len(questions) == 777
    for question in questions:
        assert "".join(render(question.gold, question.task).split()) == "".join(question.gold_text.split()), question.id
        assert question.gold.problems == {}
        assert question.gold == parse_gold(question.gold_text) == parse(question.gold_text, question.gold_names)


def test_boxes_are_mapped_once_and_zero_boxes_stay() -> None:
    text = "<answer><object>a, b</object><where>0:[1,2,3,4]\n1:[0,0,0,0]</where></answer>"
    answer = parse(text)
    seen: list = []
    moved = map_boxes(answer, lambda box: seen.append(box) or (box[0] + 10, box[1] + 10, box[2] + 10, box[3] + 10))
    assert seen == [(1, 2, 3, 4)]
    assert [o.track.boxes_px for o in moved.objects] == [((11, 12, 13, 14), NOT_VISIBLE)] * 2
    assert [o.name for o in moved.objects] == ["a", "b"]
    assert parse(text, to_source=lambda box: (box[0] + 10, box[1] + 10, box[2] + 10, box[3] + 10)) == moved
    assert has_visible_box(moved)
    assert not has_visible_box(parse("<answer><object>a</object><where>1:[0,0,0,0]</where></answer>"))


def test_whole_pixels_never_flatten_a_box() -> None:
    track = Track((0.0, 1.0), ((1.2, 1.4, 1.3, 9.6), NOT_VISIBLE))
    text = render(Answer((AnswerObject("x", (), track),)), "spatial", whole_pixels=True)
    assert "0.0: [1, 1, 2, 10]\n1.0: [0, 0, 0, 0]" in text


numbers = st.floats(0, 99_999, allow_nan=False).filter(lambda x: x == 0 or x > 1e-3)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["", "A man", "dog", "x y"]),
            st.lists(st.tuples(numbers, st.floats(0.5, 100)), max_size=3),
            st.lists(st.tuples(numbers, numbers, numbers, st.floats(0.5, 100)), max_size=3),
        ),
        max_size=4,
    ),
    st.sampled_from(["temporal", "spatial", "st"]),
)
def test_what_is_rendered_is_read_back(items: list, task: Task) -> None:
    made = Answer(
        tuple(
            AnswerObject(
                name,
                tuple(Interval(s, s + d) for s, d in spans),
                Track(tuple(t for t, *_ in rows), tuple((x, y, x + d, y + d) for _, x, y, d in rows)),
            )
            for name, spans, rows in items
        )
    )
    read = parse(render(made, task))
    assert read.problems == {}
    assert [o.name for o in read.objects] == [o.name for o in made.objects]
    for ours, theirs in zip(made.objects, read.objects, strict=True):
        written = [x for i in ours.intervals for x in (i.start, i.end)] if task != "spatial" else []
        assert [x for i in theirs.intervals for x in (i.start, i.end)] == pytest.approx(written, abs=1e-6)
        coordinates = [x for box in ours.track.boxes_px for x in box] if task != "temporal" else []
        assert [x for box in theirs.track.boxes_px for x in box] == pytest.approx(coordinates, abs=1e-6)
    assert render(read, task) == render(parse(render(read, task)), task)


@settings(max_examples=300, deadline=None)
@given(st.one_of(tag_soup(), st.text(max_size=300)))
def test_no_text_raises_and_what_is_read_obeys_the_types(text: str) -> None:
    answer = parse(text, ["a large, round pot"])
    assert set(answer.problems) <= set(PROBLEMS)
    assert all(count > 0 for count in answer.problems.values())
    for item in answer.objects:
        assert all(0 <= i.start < i.end < math.inf for i in item.intervals)
        for time, box in zip(item.track.times_s, item.track.boxes_px, strict=True):
            assert 0 <= time < math.inf
            assert box == NOT_VISIBLE or (box[0] < box[2] and box[1] < box[3])
    again = parse(render(answer, "st"), [o.name for o in answer.objects])
    assert [o.name for o in again.objects] == [o.name for o in answer.objects]
    assert [o.intervals for o in again.objects] == [o.intervals for o in answer.objects]
    assert [o.track for o in again.objects] == [o.track for o in answer.objects]


def test_no_pattern_backtracks() -> None:
    """Ten times the text costs about ten times as much; a quadratic pattern would cost a hundred times as much."""
    import time

    def seconds(piece: str, count: int) -> float:
        text = "<answer><object>x</object><where>" + piece * count
        best = math.inf
        for _ in range(3):
            start = time.process_time()
            parse(text)
            best = min(best, time.process_time() - start)
        return best

    for piece in ("<", "<a", "1", "1: [", "1,", " ", "-", "</", "[[", "0.0:"):
        small, large = seconds(piece, 1_500), seconds(piece, 15_000)
        assert large < 40 * small + 0.02, piece
