"""Every shape of scripts/hostile_text.py: in range, and nowhere near quadratic (the script prints the exact times)."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from avst.plugins import load_specs
from avst.scoring import Scorer
from avst.word_vectors import WordVectors

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "hostile_text.py"
spec = importlib.util.spec_from_file_location("hostile_text", SCRIPT)
assert spec is not None
assert spec.loader is not None
hostile_text = importlib.util.module_from_spec(spec)
spec.loader.exec_module(hostile_text)
SHAPES = hostile_text.shapes()


@pytest.mark.parametrize("shape", SHAPES)
def test_a_megabyte_of_anything_is_scored_in_linear_time(shape: str) -> None:
    scorer = Scorer(load_specs(), WordVectors())
    for task in ("spatial", "st"):
        question = hostile_text.gold_question(task)
        assert len(SHAPES[shape]) >= hostile_text.SIZE
        parse_ms, score_ms = hostile_text.measured_ms(question, SHAPES[shape], scorer, repeats=1)
        assert parse_ms + score_ms < 1000  # the aim is 50; names x boxes or a backtracking pattern would take minutes
        answer = hostile_text.parse(SHAPES[shape], question.gold_names)
        rewards = scorer.score([question], [SHAPES[shape]], [answer])[0].rewards
        assert all(value is None or 0.0 <= value <= 1.0 for value in rewards.values())
        assert rewards["format"] == 0.0
