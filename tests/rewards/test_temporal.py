import pytest

from rewards.temporal import temporal_iou
from tests.rewards.asking import ask

GOLD = "<object>man</object><when>[2, 6]</when>"


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (GOLD, 1.0),
        ("<object>man</object><when>[4, 8]</when>", 2 / 6),
        ("<object>man</object><when>[2, 4]</when><when>[3, 6]</when>", 1.0),  # the union counts
        ("<when>[2, 6]</when><object>man</object>", 1.0),
        ("<object>cat</object><when>[2, 6]</when>", 1.0),  # the question named the object
        ("<object>cat</object><object>dog</object><when>[2, 6]</when>", 1.0),  # the first that has one
        (
            "<object>cat</object><when>[2, 6]</when><object>man</object><when>[4, 8]</when>",
            2 / 6,
        ),  # matched: only its own
        ("<object>cat</object><when>[2, 6]</when><object>man</object>", 0.0),
        ("<object>man</object>", 0.0),
        ("", 0.0),
    ],
)
def test_one_gold_object(said: str, expected: float) -> None:
    assert ask(temporal_iou, said, GOLD, "temporal") == pytest.approx(expected)
    assert ask(temporal_iou, said, GOLD, "st") == pytest.approx(expected)
    assert ask(temporal_iou, said, GOLD, "spatial") is None


def test_several_gold_objects_are_averaged_and_nobody_speaks_for_another() -> None:
    gold = GOLD + "<object>dog</object><when>[0, 4]</when>"
    assert ask(temporal_iou, "<object>dog</object><when>[0, 2]</when>", gold, "st") == pytest.approx(0.25)
    assert ask(temporal_iou, "<object>cat</object><when>[2, 6]</when>", gold, "st") == 0.0
    assert ask(temporal_iou, GOLD, "<object>man</object>", "st") is None  # nothing annotated


def test_reason_says_who_spoke() -> None:
    heard: list[str] = []
    ask(temporal_iou, "<object>cat</object><when>[2, 4]</when>", GOLD, "st", reasons=lambda i, text: heard.append(text))
    assert heard == ["'cat' [2, 4] (name unmatched, the only object asked for) against gold 'man' [2, 6]"]
