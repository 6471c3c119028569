import pytest

from rewards.format import format_reward
from tests.rewards.asking import ask

NAME, WHEN, BOX = "<object>x</object>", "<when>[0, 1]</when>", "<where>\n0: [1, 2, 3, 4]\n</where>"
ZERO = "<where>0: [0, 0, 0, 0]</where>"


@pytest.mark.parametrize(
    ("said", "by_task"),
    [
        (NAME + WHEN + BOX, {"temporal": 1, "spatial": 1, "st": 1}),
        (NAME + WHEN, {"temporal": 1, "spatial": 0, "st": 0}),
        (NAME + BOX, {"temporal": 0, "spatial": 1, "st": 0}),
        (NAME + WHEN + ZERO, {"temporal": 1, "spatial": 0, "st": 0}),
        (NAME + ZERO + NAME + BOX + WHEN, {"temporal": 1, "spatial": 1, "st": 1}),
        (NAME + WHEN + "<where></where>", {"temporal": 1, "spatial": 0, "st": 0}),
        (NAME + WHEN + BOX + "so there", {"temporal": 0, "spatial": 0, "st": 0}),
        (NAME + WHEN + BOX + "<where>1: oops</where>", {"temporal": 0, "spatial": 0, "st": 0}),
        ("", {"temporal": 0, "spatial": 0, "st": 0}),
    ],
)
def test_format(said: str, by_task: dict) -> None:
    for task, expected in by_task.items():
        assert ask(format_reward, said, NAME, task) == expected, task


def test_reasons_name_every_fault() -> None:
    heard: list = []
    ask(format_reward, "hm" + NAME, NAME, "st", reasons=lambda i, text: heard.append((i, text)))
    expected = "text_outside x1, no <when>…</when>, no <where>…</where>, no box that is not four zeros"
    assert heard == [(0, expected)]
