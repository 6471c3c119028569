"""The ways of gaming that pay with the authors' own rewards (PEERS: each was run). Here none beats an honest answer.

The honest answer is a mediocre one: the right name, half of the interval, boxes shifted to an IoU of about a half.
"""

from __future__ import annotations

import pytest

from avst.answer import parse
from avst.plugins import RewardSpec, load_reward, load_specs
from avst.scoring import Score, Scorer
from avst.types import Question, Task
from tests.rewards.asking import EXACT, question

SECONDS = range(4, 16)
TIMES = "<when>[4, 16]</when>"
WHEN = "<when>[6, 12]</when>"  # said by the honest and the gamed alike, so that only the trick differs


def boxed(name: str, rows: list[str], when: str = "") -> str:
    lines = "\n".join(rows)
    return f"<object>{name}</object>{when}<where>\n{lines}\n</where>"


GOLD_ROWS = [f"{t}: [100, 100, 200, 200]" for t in SECONDS]
HONEST_ROWS = [f"{t}: [100, 133, 200, 233]" for t in SECONDS]  # IoU 67 / 133
HONEST = boxed("man", HONEST_ROWS, WHEN)
OTHERS = [f"thing {i}" for i in range(20)]
SKILLS = [RewardSpec(name, load_reward(f"rewards.skill:{name}")) for name in ("temporal_skill", "spatial_skill")]


def asked(task: Task) -> Question:
    return question(boxed("man", GOLD_ROWS, TIMES), task, duration_s=24.0)


def score(said: str, task: Task, specs: list[RewardSpec] | None = None) -> Score:
    text = f"<answer>{said}</answer>"
    return Scorer(specs or load_specs(), EXACT).score([asked(task)], [text], [parse(text, ["man"])])[0]


def test_the_honest_answer_is_worth_what_it_says() -> None:
    honest = score(HONEST, "st")
    assert honest.rewards["object"] == honest.rewards["format"] == 1.0
    assert honest.rewards["temporal"] == pytest.approx(0.5)
    assert honest.rewards["spatial"] == pytest.approx(67 / 133)


WAYS = {
    "21 names listed, one right, each with the boxes": "".join(
        boxed(name, HONEST_ROWS, WHEN) for name in [*OTHERS, "man"]
    ),
    "21 names in one tag, sharing the boxes": boxed(", ".join(["man", *OTHERS]), HONEST_ROWS, WHEN),
    "one perfect box only": boxed("man", GOLD_ROWS[:1], WHEN),
    "40 boxes at one second": boxed("man", [f"4: [{100 + i}, 100, {200 + i}, 200]" for i in range(40)], WHEN),
    "40 boxes at every second": boxed(
        "man",
        [f"{t}: [{i * 10}, 100, {i * 10 + 100}, 200]" for t in SECONDS for i in range(40)],
        WHEN,
    ),
    "empty where": f"<object>man</object>{WHEN}<where></where>",
    "zero boxes": boxed("man", [f"{t}: [0, 0, 0, 0]" for t in SECONDS], WHEN),
    "the whole frame": boxed("man", [f"{t}: [0, 0, 1280, 720]" for t in SECONDS], WHEN),
    "the answer after a wrong one": boxed("dog", HONEST_ROWS, "<when>[0, 1]</when>") + f"</answer><answer>{HONEST}",
}


@pytest.mark.parametrize("task", ["spatial", "st"])
@pytest.mark.parametrize("way", WAYS)
def test_gaming_earns_less_than_an_honest_answer(way: str, task: Task) -> None:
    honest = score(HONEST, task)
    gamed = score(WAYS[way], task)
    assert gamed.total < honest.total
    assert gamed.rewards["spatial"] < honest.rewards["spatial"]


def test_what_each_way_is_worth() -> None:
    """By hand, so that a change of the rules shows here."""
    listed = score(WAYS["21 names in one tag, sharing the boxes"], "spatial")
    assert listed.rewards["object"] == pytest.approx(2 / 22)
    assert listed.rewards["spatial"] == pytest.approx(67 / 133 / 21)
    assert score(WAYS["one perfect box only"], "spatial").rewards["spatial"] == pytest.approx(1 / 12)
    assert score(WAYS["40 boxes at one second"], "spatial").rewards["spatial"] == pytest.approx(1 / 40 / 12)
    for way in ("empty where", "zero boxes"):
        assert score(WAYS[way], "spatial").rewards == {"format": 0, "object": 1, "temporal": None, "spatial": 0}


def test_the_whole_clip_has_no_skill() -> None:
    specs = [*load_specs({"format": "rewards.format:format_reward"}), *SKILLS]
    clip = score("<object>man</object><when>[0, 24]</when>", "temporal", specs)
    honest = score("<object>man</object><when>[5, 16]</when>", "temporal", specs)
    assert clip.rewards["temporal_skill"] == 0.0
    assert honest.rewards["temporal_skill"] == pytest.approx((11 / 12 - 0.5) / 0.5)
    assert clip.total < honest.total


def test_the_whole_frame_has_no_skill() -> None:
    text = f"<answer>{WAYS['the whole frame']}</answer>"
    scorer = Scorer(SKILLS, EXACT)
    columns = {"frame_size": [(1280, 720)]}
    assert scorer.score([asked("st")], [text], [parse(text)], columns=columns)[0].rewards["spatial_skill"] == 0.0
    honest = f"<answer>{HONEST}</answer>"
    frame = 100 * 100 / (1280 * 720)
    got = scorer.score([asked("st")], [honest], [parse(honest)], columns=columns)[0].rewards["spatial_skill"]
    assert got == pytest.approx((67 / 133 - frame) / (1 - frame))


@pytest.mark.parametrize("times", [[], [(4, 16)], [(0, 24)], [(4, 16)] * 40, [(t, t + 0.5) for t in range(4, 16)]])
def test_many_whens_are_one_union(times: list) -> None:
    said = "<object>man</object>" + "".join(f"<when>[{s}, {e}]</when>" for s, e in times)
    covered = sum(min(e, 16) - max(s, 4) for s, e in set(times))
    whole = sum(e - s for s, e in set(times)) + 12 - covered
    assert score(said, "temporal").rewards["temporal"] == pytest.approx(covered / whole)
