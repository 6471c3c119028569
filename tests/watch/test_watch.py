"""avst watch: what it reads while somebody writes, what it draws, and what it makes of hostile text."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from avst.cli import main
from avst.run_folder import RunFolder
from avst.watch.curves import braille, in_columns, sparkline
from avst.watch.follow import Follower, Seen
from avst.watch.safe_text import safe
from avst.watch.screen import figures, screen

HOSTILE = "[red]markup[/] \x1b[2J\x1b]0;title\x07 a\u202eb \x9b31m\r\nx \x00\x07 [link=http://a]l[/link] 🎻"


def row(step: int, **more: Any) -> dict[str, Any]:
    return {"step": step, "elapsed_s": 2.0 * step, "time_s": 100.0 + 2 * step, "start": 0, "max_steps": 10, **more}


def completion(i: int, text: str, total: float, step: int = 3) -> dict[str, Any]:
    return {
        **{"step": step, "question_id": "q1", "task": "st", "prompt": f"Where? {HOSTILE}", "gold": "<answer>[gold]"},
        **{"completion": text, "rewards": {"format": 1.0, "object": None}, "total": total, "advantage": total - 0.5},
        **{"truncated": i == 0, "n_tokens": 12 + i},
    }


def make_run(path: Path) -> Path:
    folder = RunFolder(path)
    path.mkdir(exist_ok=True)
    (path / "run.json").write_text(json.dumps({"command": "train", "name": "a_run", "starts": []}))
    for step in (1, 2, 3):
        folder.log(row(step, reward=step / 4, loss=0.1, kl=None, **{"rewards/format/mean": 0.5, "reward/st": 0.25}))
    folder.write_completions(3, [completion(0, HOSTILE, 0.25), completion(1, "fine", 1.0)])
    return path


def drawn(path: Path, width: int, height: int, chosen: int = 0, ascii_only: bool = False) -> list[str]:
    console = Console(width=width, height=height, file=io.StringIO(), force_terminal=True, color_system=None)
    with console.capture() as capture:
        shown = screen(Follower(path, lambda: 110.0).look(), path, width, height, chosen, ascii_only)
        console.print(shown, highlight=False)
    return capture.get().splitlines()


# ---- reading --------------------------------------------------------------------------------------------------------


def test_a_folder_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "later"
    follower = Follower(path)
    assert follower.look().waiting
    assert "waiting for the run to begin" in "\n".join(drawn(path, 80, 24))
    make_run(path)
    assert [r["step"] for r in follower.look().rows] == [1, 2, 3]


def test_lines_are_read_when_they_are_whole(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run")
    follower = Follower(path)
    follower.look()
    line = json.dumps(row(4, reward=0.9))
    with (path / "metrics.jsonl").open("a") as file:
        file.write(line[:20])
        file.flush()
        assert follower.look().step == 3
        file.write(line[20:] + "\n{broken\n")
    assert follower.look().step == 4
    (path / "metrics.jsonl").write_text(json.dumps(row(1, reward=0.1)) + "\n")  # begun anew
    assert [r["step"] for r in follower.look().rows] == [1]


def test_steps_that_were_done_again_count_once(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run")
    folder = RunFolder(path)
    folder.start_index = 1
    folder.log({**row(2, reward=0.8), "start": 1})
    assert [(r["step"], r["reward"]) for r in Follower(path).look().rows] == [(1, 0.25), (2, 0.8)]


def test_half_a_parquet_file_is_passed_over(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run")
    follower = Follower(path)
    assert len(follower.look().groups[0]) == 2
    (path / "completions" / "step_000004.parquet").write_bytes(b"PAR1 and no more")
    assert len(follower.look().groups[0]) == 2


def test_pace_and_time_left(tmp_path: Path) -> None:
    seen = Follower(make_run(tmp_path / "run"), lambda: 110.0).look()
    assert (seen.seconds_per_step, seen.left_s, seen.age_s, seen.max_steps) == (2.0, 14.0, 4.0, 10)
    assert not seen.finished
    assert Seen(rows=[row(10, train_runtime=20.0)]).finished


# ---- drawing --------------------------------------------------------------------------------------------------------


def test_columns_are_means_of_equal_parts() -> None:
    assert in_columns([(0, 1.0), (1, 3.0), (2, 5.0), (4, 7.0)], 2) == [2.0, 6.0]
    assert in_columns([(0, 1.0), (10, 3.0)], 4) == [1.0, None, None, 3.0]


def test_a_rising_line_rises() -> None:
    points = [(float(i), float(i)) for i in range(8)]
    assert sparkline(points, 8) == "▁▂▃▄▅▆▇█"
    assert sparkline(points, 8, ascii_only=True) == "_.-=+*#@"
    # four columns of dots a character pair, from the bottom left to the top right
    assert braille(points[:4], 2, 1) == ["⡠⠊"]
    assert sparkline([], 3) == "   "
    assert set(sparkline([(0, 2.0), (1, 2.0)], 2)) == {"▅"}


def test_figures_are_found_whatever_the_rewards_are_called() -> None:
    rows = [
        row(1, reward=1.0, kl=0.1, entropy=None, **{"rewards/mine/mean": 1.0, "rewards/mine/st": 1.0, "reward/st": 1})
    ]
    assert figures(rows) == [("reward", "reward"), ("rewards/mine/mean", "mine"), ("reward/st", "on st"), ("kl", "KL")]


@pytest.mark.parametrize(("width", "height"), [(80, 24), (160, 50), (40, 10), (20, 5)])
def test_a_screen_fits_its_terminal(tmp_path: Path, width: int, height: int) -> None:
    lines = drawn(make_run(tmp_path / "run"), width, height)
    assert len(lines) <= height
    assert max(len(line) for line in lines) <= width
    assert "step 3/10" in "\n".join(lines)


def test_a_terminal_that_knows_ascii_alone_gets_no_more(tmp_path: Path) -> None:
    lines = drawn(make_run(tmp_path / "run"), 80, 40, ascii_only=True)
    assert "\n".join(lines).isascii()
    assert any("step 3/10 ######" in line for line in lines)


def test_lines_of_another_hand_are_passed_over(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    before = drawn(run, 80, 40)
    with (run / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": "four", "reward": 9}\n{"step": 4, "elapsed_s": []}\n{"step": 4, "max_steps": "x"}\n')
    after = drawn(run, 80, 40)
    assert after == before


def test_hostile_text_is_shown_and_does_nothing(tmp_path: Path) -> None:
    shown = "\n".join(drawn(make_run(tmp_path / "run"), 160, 50))
    assert "[red]markup[/]" in shown
    assert "[link=http://a]l[/link]" in shown
    assert not set("\x1b\x07\x00\r\x9b\u202e") & set(shown)
    assert "title" not in shown
    assert safe(HOSTILE) == "[red]markup[/] ab x [link=http://a]l[/link] 🎻"


def test_rewards_and_advantages_stand_beside_the_answers(tmp_path: Path) -> None:
    shown = "\n".join(drawn(make_run(tmp_path / "run"), 160, 50))
    assert "total 1.00  adv. +0.50  format 1.00  object –  13 tokens" in shown
    assert "total 0.25  adv. -0.25  format 1.00  object –  12 tokens, cut off" in shown
    assert shown.index("total 1.00") < shown.index("total 0.25")


def test_once_prints_and_ends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = make_run(tmp_path / "run")
    assert main(["watch", str(path), "--once"]) == 0
    assert main(["watch", str(path)]) == 0  # no terminal here
    shown = capsys.readouterr().out
    assert shown.count("step 3/10") == 2
    assert "\x1b" not in shown
