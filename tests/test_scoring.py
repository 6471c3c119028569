"""From rewards to totals: weights by task, a user's own file, faults and deadlines, reasons; the real annotations."""

from __future__ import annotations

import asyncio
import math
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from avst.answer import parse
from avst.errors import AvstError
from avst.plugins import RewardSpec, load_reward, load_specs
from avst.scoring import Score, Scorer
from avst.tasks.r_avst import load_annotations
from avst.types import TASKS, Question, Task
from avst.word_vectors import WordVectors
from tests.rewards.asking import EXACT, question
from tests.tag_soup import tag_soup

GOLD = (
    "<object>man</object>\n<when>[2, 6]</when>\n<where>\n2: [0, 0, 10, 10]\n3: [0, 0, 10, 10]\n</where>"
    "<object>dog</object>\n<when>[0, 2]</when>\n<where>\n2: [20, 0, 30, 10]\n</where>"
)
ROUGH = (  # object 1, temporal (1/2 + 1) / 2, spatial (1/2 + 0) / 2
    "<answer><object>man</object><when>[2, 4]</when><where>2: [0, 0, 10, 10]</where>"
    "<object>dog</object><when>[0, 2]</when><where>9: [20, 0, 30, 10]</where></answer>"
)


def asked(task: Task, number: int = 0) -> Question:
    made = question(GOLD, task)
    return Question(f"v/{number}/{task}/0", task, made.text, "v", 20.0, made.gold, f"<answer>{GOLD}</answer>")


def score(specs: list[RewardSpec], questions: list[Question], texts: list[str], **options: Any) -> list[Score]:
    answers = [parse(text, q.gold_names) for text, q in zip(texts, questions, strict=True)]
    return Scorer(specs, EXACT, **options).score(questions, texts, answers)


def test_totals_by_task_are_the_authors_weights() -> None:
    scores = score(load_specs(), [asked(task) for task in TASKS], [ROUGH] * 3)
    assert scores[0].rewards == {"format": 1.0, "object": None, "temporal": 0.75, "spatial": None}
    assert scores[0].total == pytest.approx(1 + 0.75)
    assert scores[1].rewards == {"format": 1.0, "object": 1.0, "temporal": None, "spatial": 0.25}
    assert scores[1].total == pytest.approx(1 + 0.5 * 1 + 0.5 * 0.25)
    assert scores[2].rewards == {"format": 1.0, "object": 1.0, "temporal": 0.75, "spatial": 0.25}
    assert scores[2].total == pytest.approx(1 + 0.5 * 0.75 + 0.5 * 0.25)  # the st object reward is shown, weight 0
    assert scores[2].reasons["temporal"] == [
        "'man' [2, 4] against gold 'man' [2, 6]; 'dog' [0, 2] against gold 'dog' [0, 2]"
    ]


def test_all_real_gold_answers_score_one(shared_data: Path) -> None:
    questions = load_annotations(shared_data / "r_avst_dev_QA.json")
    vectors = WordVectors.load(shared_data / "r_avst_train_object_vectors_googlenews300.bin", tau=0.75)
    answers = [parse(q.gold_text, q.gold_names) for q in questions]
    scores = Scorer(load_specs(), vectors).score(questions, [q.gold_text for q in questions], answers)
    applies = {"temporal": 2, "spatial": 3, "st": 4}
    exceptions = {}
    for q, got in zip(questions, scores, strict=True):
        values = {name: value for name, value in got.rewards.items() if value is not None}
        if len(values) != applies[q.task] or set(values.values()) != {1.0}:
            exceptions[q.id] = got.rewards
    assert exceptions == {
        "8hSEus9jvHc/0/spatial/0": {"format": 0.0, "object": 1.0, "temporal": None, "spatial": None},
    }


def test_a_users_own_reward_changes_exactly_what_it_should(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "def long_names(prompts, completions, completion_ids, *, task, answer, **columns):\n"
        "    assert set(task) == {'spatial'}\n"
        "    return [sum(len(o.name) for o in a.objects) / 100 for a in answer]\n"
    )
    rewards = {
        "format": "rewards.format:format_reward",
        "temporal": {"use": "rewards.temporal:temporal_iou", "weight": 2},
    }
    extra = {"mine": {"use": "./mine.py:long_names", "weight": {"spatial": 3.0}}}
    questions, texts = [asked(task) for task in TASKS], [ROUGH] * 3
    without = score(load_specs(rewards, tmp_path), questions, texts)
    with_it = score(load_specs(rewards | extra, tmp_path), questions, texts)
    assert [s.rewards["mine"] for s in with_it] == [None, 0.06, None]
    assert [b.total - a.total for a, b in zip(without, with_it, strict=True)] == pytest.approx([0, 0.18, 0])
    for a, b in zip(without, with_it, strict=True):
        assert a.rewards == {name: value for name, value in b.rewards.items() if name != "mine"}


def test_columns_are_trls_and_one_entry_a_completion() -> None:
    seen: list[dict] = []

    def spy(prompts: list, completions: list, completion_ids: list, **columns: Any) -> list[float]:
        seen.append({"prompts": prompts, "completions": completions, "completion_ids": completion_ids, **columns})
        return [float(i) for i in range(len(completions))]

    a, b = asked("st", 0), asked("temporal", 1)
    answers = [parse(ROUGH)] * 5
    scores = Scorer([RewardSpec("spy", spy)], EXACT).score(
        [a, a, a, b, b],
        [ROUGH] * 5,
        answers,
        completion_ids=[[i] for i in range(5)],
        columns={"frame_size": [(i, i) for i in range(5)]},
    )
    assert [s.rewards["spy"] for s in scores] == [0, 1, 2, 0, 1]  # called once a group
    assert [call["completion_ids"] for call in seen] == [[[0], [1], [2]], [[3], [4]]]
    assert seen[1]["frame_size"] == [(3, 3), (4, 4)]
    assert seen[0]["completions"][0] == [{"role": "assistant", "content": ROUGH}]
    assert seen[0]["prompts"][0] == [{"role": "user", "content": a.text}]
    assert (seen[1]["task"], seen[1]["duration"]) == (["temporal"] * 2, [20.0] * 2)
    assert seen[0]["question"] == [a] * 3
    assert seen[0]["gold"] == [a.gold] * 3
    assert seen[0]["word_vectors"] is EXACT


def returning(value: Any) -> Callable[..., Any]:
    return lambda **columns: value


@pytest.mark.parametrize("number", [0.5, 1, True, np.float32(0.5), np.int64(2), torch.tensor(0.5), -3.0])
def test_any_real_number_is_a_reward(number: Any) -> None:
    assert score([RewardSpec("r", returning([number]), 2.0)], [asked("st")], [ROUGH])[0].total == 2.0 * float(number)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([1.0], "returned 1 rewards for 2 completions"),
        ([1.0] * 3, "returned 3 rewards for 2 completions"),
        (1.0, "returned float, not a list"),
        (None, "returned NoneType, not a list"),
        ("ab", "returned str, not a list"),
        ([1.0, math.nan], "returned nan for completion 1"),
        ([math.inf, 1.0], "returned inf for completion 0"),
        ([1.0, "0.5"], "returned '0.5' for completion 1"),
        ([torch.ones(2), 1.0], "for completion 0"),
    ],
)
def test_a_bad_return_value_ends_the_run_by_name(value: Any, said: str) -> None:
    with pytest.raises(AvstError) as caught:
        score([RewardSpec("odd", returning(value))], [asked("st", 7)] * 2, [ROUGH] * 2)
    assert said in str(caught.value)
    assert "'odd'" in str(caught.value)
    assert "v/7/st/0" in str(caught.value)


def failing(**columns: Any) -> list[float]:
    if columns["question"][0].id == "v/1/st/0":
        raise KeyError("a\nline")
    return [1.0] * len(columns["task"])


def test_an_exception_names_function_and_question() -> None:
    with pytest.raises(
        AvstError, match=r"reward 'f' \(failing\) raised KeyError: 'a\\nline'; question v/1/st/0"
    ) as caught:
        score([RewardSpec("f", failing)], [asked("st", 0), asked("st", 1)], [ROUGH] * 2)
    assert isinstance(caught.value.__cause__, KeyError)


def test_a_reward_that_would_exit_has_raised() -> None:
    """A whole run must not end well because a plug-in calls sys.exit(0)."""

    def leaves(**columns: object) -> list[float]:
        sys.exit(0)

    with pytest.raises(AvstError, match=r"reward 'f' .*leaves\) raised SystemExit"):
        score([RewardSpec("f", leaves)], [asked("st", 0)], [ROUGH])
    with pytest.raises(AvstError, match=r"reward 'f' .*leaves\) raised SystemExit"):
        score([RewardSpec("f", leaves)], [asked("st", 0)], [ROUGH], deadline_s=30.0)


def test_abstaining_loses_only_what_failed() -> None:
    specs = [
        *load_specs(),
        RewardSpec("f", failing),
        RewardSpec("n", lambda **c: [math.nan] + [0.5] * (len(c["task"]) - 1)),
    ]
    got = score(specs, [asked("st", 0)] * 2 + [asked("st", 1)], [ROUGH] * 3, on_error="abstain")
    base = score(load_specs(), [asked("st")], [ROUGH])[0].total
    assert [s.rewards["f"] for s in got] == [1.0, 1.0, None]
    assert [s.rewards["n"] for s in got] == [None, 0.5, None]
    assert [s.total for s in got] == pytest.approx([base + 1.0, base + 1.5, base])
    assert got[2].reasons["f"] == ["abstained: raised KeyError: 'a\\nline'"]
    assert got[0].reasons["n"] == ["abstained: returned nan for completion 0"]


def test_none_abstains_without_a_word() -> None:
    got = score([RewardSpec("r", returning([None, 1.0]))], [asked("st")] * 2, [ROUGH] * 2)
    assert [s.rewards["r"] for s in got] == [None, 1.0]
    assert [s.total for s in got] == [0.0, 1.0]


def test_async_rewards_run_side_by_side() -> None:
    arrived: list[str] = []

    async def waits_for_all(**columns: Any) -> list[float]:
        arrived.append(columns["question"][0].id)
        while len(arrived) < 3:  # never true one after the other
            await asyncio.sleep(0)
        return [float(len(columns["task"]))] * len(columns["task"])

    class Judge:
        async def __call__(self, **columns: Any) -> list[float]:
            return [0.25] * len(columns["task"])

    questions = [asked("st", 0), asked("st", 0), asked("st", 1), asked("st", 2)]
    specs = [RewardSpec("a", waits_for_all), RewardSpec("judge", Judge())]
    got = score(specs, questions, [ROUGH] * 4, deadline_s=20.0)
    assert [s.rewards["a"] for s in got] == [2.0, 2.0, 1.0, 1.0]
    assert [s.rewards["judge"] for s in got] == [0.25] * 4

    async def in_a_notebook() -> list[Score]:  # a loop is already running in this thread
        return score([RewardSpec("judge", Judge())], questions[:1], [ROUGH])

    assert asyncio.run(in_a_notebook())[0].rewards == {"judge": 0.25}


def test_a_passed_deadline_is_named_sync_and_async() -> None:
    gate = threading.Event()

    def hangs(**columns: Any) -> list[float]:
        gate.wait(30)
        return [1.0]

    async def hangs_too(**columns: Any) -> list[float]:
        await asyncio.sleep(30)
        return [1.0]

    async def quick(**columns: Any) -> list[float]:
        return [1.0]

    for function in (hangs, hangs_too):
        with pytest.raises(AvstError, match=r"passed its deadline of 0\.05 s; question v/0/st/0"):
            score([RewardSpec("slow", function)], [asked("st")], [ROUGH], deadline_s=0.05)
    specs = [RewardSpec("slow", hangs), RewardSpec("slow too", hangs_too), RewardSpec("quick", quick)]
    got = score(specs, [asked("st")], [ROUGH], deadline_s=0.05, on_error="abstain")[0]
    assert got.rewards == {"slow": None, "slow too": None, "quick": 1.0}
    gate.set()


def test_a_reward_in_time_is_not_disturbed_by_a_deadline() -> None:
    def sleeps(**columns: Any) -> list[float]:
        time.sleep(0.01)
        return [0.5]

    assert score([RewardSpec("r", sleeps)], [asked("st")], [ROUGH], deadline_s=30.0)[0].total == 0.5


@pytest.mark.parametrize(
    ("ref", "said"),
    [
        ("temporal_iou", 'write "module:function"'),
        ("rewards.temporal", 'write "module:function"'),
        ("rewards.temporl:temporal_iou", "did you mean 'rewards.temporal'"),
        ("rewrds.temporal:temporal_iou", "no module 'rewrds'"),
        ("rewards.temporal:temporal_io", "did you mean 'temporal_iou'"),
        ("rewards.temporal:__name__", "is not a function but str"),
        ("./mine.py:reward", "did you mean 'mine2.py'"),
        ("./mine2.py:rewad", "did you mean 'reward'"),
        ("./broken.py:reward", "cannot be imported: SyntaxError"),
        ("./needs.py:reward", "cannot be imported: ModuleNotFoundError"),
    ],
)
def test_unknown_rewards_are_named_with_the_nearest(ref: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "mine2.py").write_text("def reward(**columns): return []\n")
    (tmp_path / "broken.py").write_text("def reward(:\n")
    (tmp_path / "needs.py").write_text("import a_module_that_nobody_has\n")
    with pytest.raises(AvstError) as caught:
        load_reward(ref, tmp_path)
    assert said in str(caught.value)
    assert ref in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("rewards", "said"),
    [
        ({"r": {"weight": 1.0}}, "must say use"),
        ({"r": 3}, "must say use"),
        ({"r": {"use": "rewards.format:format_reward", "wieght": 1}}, "did you mean 'weight'"),
        ({"r": {"use": "rewards.format:format_reward", "weight": {"spatal": 1}}}, "did you mean 'spatial'"),
        ({"r": {"use": "rewards.format:format_reward", "weight": "1"}}, "must be a finite number"),
        ({"r": {"use": "rewards.format:format_reward", "weight": math.nan}}, "must be a finite number"),
        ({"r": {"use": "rewards.format:format_reward", "weight": {"st": math.inf}}}, "weight for st must be"),
    ],
)
def test_a_bad_rewards_section_is_one_line(rewards: dict, said: str) -> None:
    with pytest.raises(AvstError, match=said):
        load_specs(rewards)


def test_a_scorer_refuses_what_it_cannot_do() -> None:
    spec = load_specs()[0]
    for specs, options, said in (
        ([], {}, "at least one"),
        ([spec, spec], {}, "used twice"),
        ([spec], {"on_error": "ignore"}, "on_error"),
        ([spec], {"deadline_s": 0}, "deadline_s"),
    ):
        with pytest.raises(AvstError, match=said):
            Scorer(specs, EXACT, **options)
    with pytest.raises(ValueError, match="completions"):
        Scorer([spec], EXACT).score([asked("st")], [], [parse("")])


@settings(max_examples=300, deadline=None)
@given(st.one_of(tag_soup(), st.text(max_size=200)), st.sampled_from(TASKS))
def test_no_text_raises_and_every_reward_is_in_range(text: str, task: Task) -> None:
    skills = [RewardSpec(name, load_reward(f"rewards.skill:{name}")) for name in ("temporal_skill", "spatial_skill")]
    got = score([*load_specs(), *skills], [asked(task)], [text])[0]
    for name, value in got.rewards.items():
        assert value is None or 0.0 <= value <= 1.0, name
    assert 0.0 <= got.total <= 4.0
