"""The benchmark of flat groups: whole steps of both arms, whose tokens are those of the groups that are computed."""

from __future__ import annotations

from pathlib import Path

import pytest

from avst.models.tiny import make_tiny
from scripts.bench import flat_groups
from scripts.bench.flat_groups import ANSWERS, PROMPTS, SMALL_MODEL, SMALL_SHAPE


@pytest.mark.parametrize("flat", [2, 4])
def test_tokens_of_what_is_computed(tmp_path: Path, flat: int) -> None:
    """A group's prompt and answers stand in its row, or a blank of four tokens with an answer of one."""
    make_tiny("qwen2_5_vl", tmp_path, **SMALL_MODEL)
    counts = {}
    for skip in (False, True):
        once, tokens = flat_groups.arm(tmp_path, flat, skip, **SMALL_SHAPE)
        for _ in range(2):
            once()
            assert len(tokens) == PROMPTS  # every micro-batch runs one forward
        counts[skip] = tokens
    (prompt,) = {
        int(row.input_ids.numel()) for row in flat_groups.trainer_of(tmp_path, 0, True, **SMALL_SHAPE).train_dataset
    }
    assert counts[False] == [prompt + ANSWERS * SMALL_SHAPE["answer_tokens"]] * PROMPTS
    assert counts[True] == [5] * flat + counts[False][flat:]


def test_figures() -> None:
    figures = {figure.name: figure for figure in flat_groups.run(quick=True)}
    assert len(figures) == 4
    for flat, most in ((2, 0.52), (4, 0.03)):
        share = figures[f"{flat} of 4 groups flat: tokens, skipped / computed"]
        assert share.value == pytest.approx(share.how["tokens"]["skipped"] / share.how["tokens"]["computed"])
        assert share.value < most
