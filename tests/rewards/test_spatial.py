import pytest

from rewards.spatial import spatial_iou
from tests.rewards.asking import ask


def boxed(name: str, *rows: str) -> str:
    lines = "\n".join(rows)
    return f"<object>{name}</object><where>\n{lines}\n</where>"


GOLD = boxed("man", "0: [0, 0, 10, 10]", "1: [0, 0, 10, 10]", "2: [0, 0, 10, 10]", "3: [0, 0, 0, 0]")
FULL = "[0, 0, 10, 10]"


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (GOLD, 1.0),
        (boxed("man", f"0: {FULL}"), 1 / 3),  # one perfect box
        (boxed("man", *[f"{t}: {FULL}" for t in range(9)]), 1.0),  # times that are not annotated are not judged
        (boxed("man", "0: [0, 0, 10, 5]", "1.4: [0, 0, 10, 10]", "2: [0, 0, 0, 0]"), 1.5 / 3),
        (boxed("man", *[f"0: [{i}, 0, {i + 10}, 10]" for i in range(40)]), 1 / 40 / 3),
        (boxed("cat", f"0: {FULL}"), 0.0),
        (GOLD + boxed("cat", f"0: {FULL}"), 1 / 2),  # listing objects costs
        (boxed("man"), 0.0),
        ("", 0.0),
    ],
)
def test_one_gold_object(said: str, expected: float) -> None:
    assert ask(spatial_iou, said, GOLD, "spatial") == pytest.approx(expected)
    assert ask(spatial_iou, said, GOLD, "st") == pytest.approx(expected)
    assert ask(spatial_iou, said, GOLD, "temporal") is None


def test_several_gold_objects() -> None:
    gold = GOLD + boxed("dog", "0: [0, 0, 10, 10]") + boxed("sky") + boxed("sea", "1: [0, 0, 0, 0]")
    assert ask(spatial_iou, GOLD, gold, "spatial") == pytest.approx(1 / 2)  # sky and sea are never visible
    said = GOLD + boxed("sky", f"0: {FULL}") + boxed("dog", "0: [0, 0, 10, 5]")
    assert ask(spatial_iou, said, gold, "spatial") == pytest.approx(
        1.5 / 2
    )  # naming the sky is right and costs nothing
    assert ask(spatial_iou, said + boxed("bird"), gold, "spatial") == pytest.approx(1.5 / 3)


def test_nothing_visible_does_not_apply() -> None:
    assert ask(spatial_iou, GOLD, boxed("man", "0: [0, 0, 0, 0]"), "spatial") is None
    assert ask(spatial_iou, GOLD, boxed("man"), "st") is None


def test_reason_shows_the_parts() -> None:
    heard: list[str] = []
    said = boxed("man", f"0: {FULL}") + boxed("cat")
    ask(spatial_iou, said, GOLD, "st", reasons=lambda i, text: heard.append(text))
    assert heard == ["mean box IoU 'man' 0.33; over 1 gold + 1 predicted that match none"]
