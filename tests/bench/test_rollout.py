"""The rollout's benchmark: its arms do the same work, and its figures come from their replies."""

from __future__ import annotations

import pytest

from scripts.bench.head import arm as head_arm
from scripts.bench.rollout import QUICK, WAYS, arm, run


@pytest.mark.parametrize("way", WAYS)
def test_every_way_draws_all_tokens(way: str) -> None:
    assert arm(way, **QUICK, hidden=32, layers=2)()["tokens"] == 2 * 3 * 4


def test_figures_are_ratios_of_the_runs() -> None:
    figures = {figure.name: figure for figure in run(quick=True)}
    how = figures["2 prompts of 40: together"].how
    (together,), (repeated,) = how["seconds"]["together"], how["seconds"]["repeated"]
    assert figures["2 prompts of 40: together"].value == pytest.approx(24 / together)
    assert figures["2 prompts of 40: together / repeated"].value == pytest.approx(repeated / together)
    assert figures["ended answers leave / stay, tokens/s"].value > 0


def test_both_heads_compute_the_same() -> None:
    plain, pieces = (head_arm(way, 12, 16, 500, True)() for way in ("plain", "pieces"))
    assert plain["logps"] == pytest.approx(pieces["logps"], rel=1e-5)
    assert plain["gradient"] == pytest.approx(pieces["gradient"], rel=1e-5)
