"""The newcomer's command, cut down to seconds: every stage runs, on the shipped recipe, and leaves what it says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from avst.cli import main
from avst.plots import plot_rewards


def test_every_stage_runs_and_leaves_its_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "q"
    status = main(
        [
            "quickstart",
            "--out",
            str(out),
            "--clips",
            "14",
            "grpo.max_steps=2",
            "grpo.logging_steps=1",
            "eval.max_new_tokens=24",
        ]
    )
    printed = capsys.readouterr().out
    assert status == 0
    for name in ("whole clip", "whole frame", "before", "after GRPO", "m_tIoU", "m_vIoU"):
        assert name in printed
    rows = [json.loads(line) for line in (out / "grpo" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "reward" in row] == [1, 2]
    assert len(list((out / "grpo" / "completions").glob("*.parquet"))) == 2
    assert (out / "rewards.png").read_bytes().startswith(b"\x89PNG")
    assert (out / "grpo" / "final" / "model.safetensors").stat().st_size > 1_000_000
    held_out = json.loads((out / "eval" / "after_GRPO" / "scores.json").read_text())
    trained_on = json.loads((out / "scenes" / "annotations_train.json").read_text())
    names = {video["video_name"] for video in trained_on}
    assert held_out["missing"] == 0
    assert names.isdisjoint(question["id"].split("/")[0] for question in held_out["questions"])


def test_the_plot_takes_rows_without_rewards(tmp_path: Path) -> None:
    rows = [{"step": 1, "reward": 0.5, "rewards/format/mean": 1.0}, {"step": 1, "train_loss": 0.1}]
    assert plot_rewards(rows, tmp_path / "p.png").stat().st_size > 1000
