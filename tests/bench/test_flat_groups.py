"""The benchmark of flat groups: the tokens that it counts are those of the groups that are computed."""

from __future__ import annotations

import pytest

from scripts.bench.flat_groups import run


def test_tokens_of_what_is_computed() -> None:
    """A group of 60 + 6 x 8 tokens; a blank of 24 + 1 in place of each flat one."""
    figures = {figure.name: figure for figure in run(quick=True)}
    half, whole = (figures[f"{flat} of 4 groups flat: tokens, skipped / computed"] for flat in (2, 4))
    assert half.how == {}
    assert half.value == pytest.approx((2 * 108 + 2 * 25) / (4 * 108))
    assert whole.value == pytest.approx(25 / 108)
    assert figures["4 of 4 groups flat: time, computed / skipped"].how["tokens"] == {"computed": 432, "skipped": 100}
