"""The rewards' benchmark: what it measures is what it says, at small sizes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from avst.answer import parse
from avst.tasks.r_avst import load_annotations
from avst.word_vectors import WordVectors, word_index
from scripts.bench import rewards as bench

WORDS = [*bench.OBJECTS[:2], "acoustic", "guitar", *(f"word{i}" for i in range(400))]


def test_a_group_is_six_long_answers_that_name_the_gold_objects_otherwise() -> None:
    question, texts = bench.group(WORDS[4:], seed=1, shift_s=0.3, boxes=2)
    answers = [parse(text) for text in texts]
    assert len(answers) == 6
    for answer in [*answers, question.gold]:
        assert dict(answer.problems) == {}
        assert [len(item.track.boxes_px) for item in answer.objects] == [80, 80, 80]
    names = [item.name for answer in answers for item in answer.objects]
    assert all(name.endswith(gold) and name != gold for name, gold in zip(names, bench.OBJECTS * 6, strict=True))
    assert [item.track.times_s[:3] for item in answers[0].objects] == [(0.3, 0.3, 1.3)] * 3


def test_all_boxes_are_compared(tmp_path: Path) -> None:
    """answer_figures raises where a name does not match."""
    vectors = WordVectors.load(bench.write_vectors(tmp_path / "v.bin", WORDS), bench.TAU)
    figures = bench.answer_figures(vectors, WORDS[4:], repeats=2)
    assert [len(figure.how["seconds"]) for figure in figures] == [2] * len(bench.WAYS)
    assert [figure.target for figure in figures] == ["<= 5", "", "", ""]
    with pytest.raises(RuntimeError, match="not matched"):
        bench.answer_figures(WordVectors(), WORDS[4:], repeats=1)


def test_both_readers_do_the_same_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word_index, "SMALL_BYTES", 0)
    path = bench.write_vectors(tmp_path / "v.bin", WORDS)
    figures = {figure.name: figure for figure in bench.load_figures(path, WORDS, repeats=1)}
    how = figures["gensim / mapped"].how
    assert figures["gensim / mapped"].value == how["seconds"]["gensim"][0] / how["seconds"]["mapped"][0]
    assert how["replies"]["mapped"][0]["sum"] == how["replies"]["gensim"][0]["sum"] != 0.0


def test_questions_are_planned_where_the_real_ones_are_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "REAL", tmp_path / "absent.json")
    annotations, kind = bench.write_questions(tmp_path, 60)
    assert kind == "synthetic"
    questions = load_annotations(annotations)
    assert len(questions) >= 60
    words = bench.vocabulary(annotations, 500)
    assert len(words) == 500
    assert {"dog", "acoustic", "guitar"} < set(words)
    vectors = bench.write_vectors(tmp_path / "v.bin", words)
    monkeypatch.setattr(bench, "QUESTIONS", 60)
    figures = bench.command_figures(tmp_path, annotations, kind, vectors, repeats=1)
    assert [figure.name for figure in figures][1] == "avst score, 60 gold answers (synthetic), with vectors"
    scored = json.loads((tmp_path / "scores.json").read_text())
    assert (len(scored["questions"]) - scored["missing"], scored["unknown_ids"]) == (60, [])
