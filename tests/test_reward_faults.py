"""What a reward may do wrong without harm: hang, crash, print; and a step in which every reward abstains."""

from __future__ import annotations

import asyncio
import ctypes
import json
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from avst.apart import Apart, ChildLost
from avst.errors import AvstError
from avst.plugins import RewardSpec, load_specs
from tests.grpo_world import clip_rows, logged, make_trainer, weights
from tests.test_exact_resume import same
from tests.test_scoring import ROUGH, TASKS, asked, score


def half(**columns: Any) -> list[float]:
    return [0.5] * len(columns["task"])


def blocks(**columns: Any) -> list[float]:
    """Holds the interpreter while it sleeps: no thread of this process could run on."""
    ctypes.PyDLL(None).sleep(60)
    return [1.0]


async def waits(**columns: Any) -> list[float]:
    await asyncio.sleep(60)
    return [1.0]


async def blocks_too(**columns: Any) -> list[float]:
    return blocks()


async def quick(**columns: Any) -> list[float]:
    return [0.25] * len(columns["task"])


def crashes(**columns: Any) -> list[float]:
    os.kill(os.getpid(), 9)
    return [1.0]


def exits(**columns: Any) -> list[float]:
    os._exit(3)


def a_generator(**columns: Any) -> Any:
    return (value for value in [1.0])


def test_apart_rewards_are_the_same() -> None:
    """Values, totals and reasons of the four rewards of the paper."""
    questions, texts = [asked(task) for task in TASKS], [ROUGH, "", ROUGH]
    plain, apart = (score(load_specs(), questions, texts, apart=apart) for apart in (False, True))
    assert apart == plain
    assert plain[0].reasons["temporal"]


@pytest.mark.parametrize(
    ("function", "fault"),
    [
        (blocks, "passed its deadline of 1 s"),
        (blocks_too, "passed its deadline of 1 s"),
        (waits, "passed its deadline of 1 s"),
        (crashes, "ended its process: it was ended by SIGKILL"),
        (exits, "ended its process: it exited with status 3"),
        (a_generator, "raised TypeError: generator, which cannot be sent between processes"),
    ],
)
def test_what_goes_wrong_in_a_process_of_its_own_is_the_rewards_fault(function: Any, fault: str) -> None:
    specs = [RewardSpec("odd", function), RewardSpec("half", half), RewardSpec("quick", quick)]
    options: dict[str, Any] = {"deadline_s": 1.0, "apart": True}
    with pytest.raises(AvstError, match=rf"reward 'odd' \({function.__name__}\) {fault}.*; question v/0/st/0"):
        score(specs[:1], [asked("st")], [ROUGH], **options)
    if function is blocks_too:
        return  # it takes the loop, and so its fellows, with it
    got = score(specs, [asked("st")], [ROUGH], on_error="abstain", **options)[0]
    assert got.rewards == {"odd": None, "half": 0.5, "quick": 0.25}


def test_a_child_that_ends_is_replaced_and_one_that_hangs_is_ended() -> None:
    def act(words: str) -> Any:
        if words == "hang":
            time.sleep(60)
        if words == "end":
            os._exit(4)
        return os.getpid()

    apart = Apart(act)
    first = apart("pid", 30.0)
    assert apart("pid", 30.0) == first != os.getpid()
    with pytest.raises(ChildLost, match="it exited with status 4"):
        apart("end", 30.0)
    second = apart("pid", 30.0)
    assert second != first
    with pytest.raises(TimeoutError):
        apart("hang", 0.2)
    for pid in (first, second):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert apart("pid", 30.0) not in (first, second)


@pytest.mark.parametrize("apart", [False, True])
def test_what_a_reward_prints_goes_to_the_screen_not_into_the_output(
    tmp_path: Path, apart: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    """`avst score --json` is somebody's input."""

    def prints(**columns: Any) -> list[float]:
        print("a reward that talks", flush=True)
        if apart:
            os.write(1, b"past Python\n")
        return half(**columns)

    print("{}")
    score([RewardSpec("p", prints)], [asked("st")], [ROUGH], apart=apart)
    sys.stdout.flush()
    out, err = capfd.readouterr()
    assert json.loads(out) == {}
    assert "a reward that talks" in err
    assert ("past Python" in err) == apart


def nothing(prompts: Any, completions: Any, **columns: Any) -> list[None]:
    return [None] * len(completions)


def test_a_step_in_which_every_reward_abstains_moves_nothing(tiny_folders: dict[str, Path], tmp_path: Path) -> None:
    folder = tiny_folders["qwen2_5_vl"]
    for more in ({"scale_rewards": "batch"}, {"multi_objective_aggregation": "normalize_then_sum"}):
        trainer = make_trainer(folder, tmp_path, clip_rows(folder), rewards=[RewardSpec("n", nothing)], **more)
        before = weights(trainer)
        trainer.train()
        assert same(weights(trainer), before)
        assert logged(trainer, "reward") == []
        assert trainer.bad_steps.in_all == 0
        assert all(math.isfinite(value) for line in trainer.state.log_history for value in line.values())
