"""What all benchmarks share: figures and their targets, turns, arms in processes of their own, the table, the JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from scripts.bench import __main__ as bench
from scripts.bench.arm import Arm
from scripts.bench.figure import Figure
from scripts.bench.timing import by_turns, medians, ratio


@pytest.mark.parametrize(
    ("value", "target", "met"), [(4.5, ">= 4.5", True), (4.4, ">= 4.5", False), (0.36, "<= 0.35", False), (1, "", None)]
)
def test_targets(value: float, target: str, met: bool | None) -> None:
    assert Figure("g", "n", value, "x", target).met is met


def test_arms_take_turns() -> None:
    order: list[str] = []
    seconds = by_turns({name: lambda name=name: order.append(name) for name in "ab"}, repeats=2, warmup=1)
    assert order == ["a", "b"] * 3
    assert [len(runs) for runs in seconds.values()] == [2, 2]


def test_ratios_are_taken_within_a_round() -> None:
    """A machine that was busy in the second round was so for both."""
    seconds = {"slow": [4.0, 40.0, 6.0], "fast": [2.0, 20.0, 2.0]}
    assert ratio(seconds, "slow", "fast") == 2.0
    assert medians(seconds) == {"slow": 6.0, "fast": 2.0}


def allocating(megabytes: int):
    """An arm for the test below: holds so many megabytes, and says how often it ran."""
    held = bytearray(megabytes << 20)
    held[::4096] = b"x" * len(held[::4096])
    print("what an arm prints goes elsewhere")
    runs: list[int] = []

    def once() -> dict[str, int]:
        runs.append(len(held))
        return {"runs": len(runs)}

    return once


def test_an_arm_has_memory_of_its_own() -> None:
    with (
        Arm("tests.bench.test_frame:allocating", megabytes=20) as small,
        Arm("tests.bench.test_frame:allocating", megabytes=220) as large,
    ):
        for arm in (small, large, small):
            arm.run()
        assert (small.last["runs"], large.last["runs"]) == (2, 1)
        assert 150e6 < large.peak_bytes - small.peak_bytes < 250e6


def test_an_arm_that_fails_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="ended with status 1"):
        Arm("tests.bench.test_frame:allocating", megabytes="many")


def test_table_json_and_docs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    figures = [Figure("step", "faster", 5.04, "x", ">= 4.5", {"seconds": [1, 2]}), Figure("step", "rate", 1234.5, "/s")]
    monkeypatch.setitem(sys.modules, "scripts.bench.step", SimpleNamespace(run=lambda quick: figures))
    document = tmp_path / "page.md"
    document.write_text("before\n<!-- figures -->\nold\n<!-- /figures -->\nafter\n")
    assert bench.main(["step", "--json", str(tmp_path / "x.json"), "--docs", str(document)]) == 0
    rows = "| step | faster | 5.04 x | >= 4.5 ✓ |\n| step | rate | 1,234 /s | |"
    assert rows in capsys.readouterr().out
    assert document.read_text().startswith("before\n<!-- figures -->\n| benchmark |")
    assert document.read_text().endswith(rows + "\n<!-- /figures -->\nafter\n")
    record = json.loads((tmp_path / "x.json").read_text())
    assert record["figures"][0]["met"] is True
    assert record["figures"][0]["how"] == {"seconds": [1, 2]}
    assert record["versions"]["torch"]


def test_other_benchmarks_figures_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One benchmark run anew replaces its own figures; figures of other versions are not mixed in."""
    values = {"step": 1.0, "head": 2.0}
    for name in values:
        run = SimpleNamespace(run=lambda quick, name=name: [Figure(name, "value", values[name])])
        monkeypatch.setitem(sys.modules, f"scripts.bench.{name}", run)
    file = tmp_path / "x.json"

    def measured(*arguments: str) -> dict[str, float]:
        assert bench.main([*arguments, "--json", str(file)]) == 0
        return {entry["benchmark"]: entry["value"] for entry in json.loads(file.read_text())["figures"]}

    assert measured("head", "step") == {"step": 1.0, "head": 2.0}
    values["step"] = 3.0
    assert measured("step") == {"step": 3.0, "head": 2.0}
    assert measured("step", "--quick") == {"step": 3.0}
    monkeypatch.setattr(bench, "version", lambda package: "0")
    assert measured("head") == {"head": 2.0}
