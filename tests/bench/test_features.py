"""The features benchmark: its counts are what they should be, and its arms compare the same thing."""

from __future__ import annotations

from pathlib import Path

from scripts.bench.features import QUICK, counts, timings


def test_counts(tmp_path: Path) -> None:
    """A clip is computed once over two epochs, whoever asks; what the figures are made of adds up."""
    calls, rate = counts(tmp_path, clips=2, questions=2)
    assert (calls.value, rate.value) == (1.0, 1.0)
    assert calls.met
    assert rate.met
    assert len(calls.how["tower_calls"]) == 2
    assert calls.how["prompts_made"] >= 2 * 2 * 2  # both questions of both clips in both epochs: made anew
    second = rate.how["second_epoch"]
    assert (second["memory"] + second["disk"], second["computed"]) == (4, 0)


def test_timings(tmp_path: Path) -> None:
    """Of all arms the figures are medians of runs that are in the record, and the ratio is of these."""
    tower, disk, hashing, faster, weights = timings(QUICK, tmp_path)
    runs = tower.how["seconds"]
    assert set(runs) == {"tower", "disk", "hashing"}
    assert {len(each) for each in runs.values()} == {QUICK.repeats}
    for name, figure in (("tower", tower), ("disk", disk), ("hashing", hashing)):
        assert min(runs[name]) <= figure.value <= max(runs[name])
    ratios = [a / b for a, b in zip(runs["tower"], runs["disk"], strict=True)]
    assert min(ratios) <= faster.value <= max(ratios)
    assert weights.value > 0
    assert tower.how["visual_tokens"] == 10 * 7 * 11  # two frames are one, 28 px a token
