"""The learning table: its cells, its figures, and its controls (totals dealt out at random, another sound)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from avst.answer import parse
from avst.media import MediaSettings, load_clip
from avst.plugins import load_specs
from avst.scenes.plan import plan_scene
from avst.scenes.settings import make_settings
from avst.scenes.synthesise import synthesise
from avst.scoring import Scorer
from avst.tasks.r_avst import load_annotations
from avst.word_vectors import WordVectors
from scripts.learning_table.controls import shuffled
from scripts.learning_table.other_sound import write_clips
from scripts.learning_table.plan import learning_plan, make_clips
from scripts.learning_table.summary import as_lines, as_markdown, by_cell, skill

TEXTS = [
    "<answer><object>dog</object><when>[1.0, 3.0]</when></answer>",
    "<answer><object>dog</object><when>[0.0, 6.0]</when></answer>",
    "when it barks",
    "<answer><object>cat</object><when>[2.0, 2.5]</when></answer>",
]


def test_a_group_keeps_its_totals_and_loses_whose_they_are(tmp_path: Path) -> None:
    made = synthesise(tmp_path, 8, 3, make_settings("quickstart"), n_eval=4)
    questions = [q for q in load_annotations(made.annotations["train"]) if q.task == "temporal"]
    scorer = Scorer(load_specs(), WordVectors())
    moved = 0
    for number, question in enumerate(questions):
        texts = [f"{text}{' ' * number}" for text in TEXTS]  # the order follows from the texts
        group = [question] * len(texts)
        answers = [parse(text) for text in texts]
        expected = [score.total for score in scorer.score(group, texts, answers)]
        found = shuffled(
            [None] * len(texts),
            [[{"role": "assistant", "content": text}] for text in texts],
            [[]] * len(texts),
            task=[question.task] * len(texts),
            question=group,
            answer=answers,
            gold=[question.gold] * len(texts),
            word_vectors=WordVectors(),
        )
        assert sorted(found) == sorted(expected)
        moved += found != expected
    assert moved > len(questions) / 2


def test_pictures_stay_and_sounds_go_or_change(tmp_path: Path) -> None:
    settings = make_settings("quickstart")
    made = synthesise(tmp_path / "as_it_is", 3, 5, settings, n_eval=1)
    names = [plan_scene(settings, 5, i).name for i in range(3)]
    folders = {"as it is": made.videos}
    for kind in ("muted", "swapped"):
        folders[kind] = write_clips(tmp_path / kind, settings, 5, names, kind)
    media = MediaSettings(fps=2.0, audio_rate=16000)
    clips = {kind: [load_clip(folder / f"{name}.mp4", media) for name in names] for kind, folder in folders.items()}
    for kind in ("muted", "swapped"):
        for mine, other in zip(clips[kind], clips["as it is"], strict=True):
            np.testing.assert_array_equal(mine.frames, other.frames)
    assert max(np.abs(clip.audio).max() for clip in clips["muted"]) < 0.01
    for i, clip in enumerate(clips["swapped"]):
        likeness = [np.corrcoef(clip.audio.ravel(), other.audio.ravel())[0, 1] for other in clips["as it is"]]
        assert int(np.argmax(likeness)) == (i + 1) % 3
        assert max(likeness) > 0.9


def record(row: str, task: str, figure: str, mean: float, sd: float | None = None) -> dict[str, object]:
    return {"row": row, "task": task, "figure": figure, "mean": mean, "sd": sd}


def test_the_table_shows_means_spreads_and_what_is_won_over_the_trivial_answer() -> None:
    table = by_cell(
        [
            record("full", "temporal", "m_tIoU", 70.0, 1.25),
            record("untrained", "temporal", "m_tIoU", 55.0),
            record("whole clip", "temporal", "m_tIoU", 25.0),
            record("whole frame", "temporal", "m_tIoU", 1.0),  # not this figure's trivial answer
        ]
    )
    assert skill(table, "full", "temporal", "m_tIoU") == pytest.approx(60.0)  # 45 of the 75 that are left
    assert skill(table, "full", "spatial", "m_vIoU") is None
    head, *lines = as_lines(table, {"full": 5.04})
    column = head.index("temporal m_tIoU")
    assert [(line[0], line[1], line[column]) for line in lines] == [
        ("SFT only", "", "55.0"),
        ("  skill", "", "40"),
        ("GRPO", "5.0", "70.0 ±1.2"),
        ("  skill", "", "60"),
        ("whole clip", "", "25.0"),
        ("whole frame", "", ""),
    ]
    assert as_markdown([head, *lines]).splitlines()[2].startswith("| SFT only |  | 55.0 |")


def test_its_cells_are_the_ablations_sft_for_as_long_and_the_control(tmp_path: Path) -> None:
    scenes = make_clips(tmp_path / "scenes", 3, 2, 1)
    assert scenes.n_clips == {"train": 3, "eval": 2}
    plan = learning_plan(scenes, tmp_path, seeds=2, sft_steps=7, overrides=["grpo.max_steps=1"])
    names = ["full", *(f"without {name}" for name in ("temporal", "spatial", "object", "format"))]
    assert [variant.name for variant in plan.variants] == [*names, "SFT continued", "shuffled rewards"]
    cells = {(cell.variant.name, cell.seed): cell for cell in plan.cells}
    assert {seed for _, seed in cells} == {0, 1}
    continued = cells["SFT continued", 1]
    assert continued.variant.command == "sft"
    assert plan.cell_recipe(continued).sft["max_steps"] == 7
    assert set(plan.cell_recipe(cells["shuffled rewards", 0]).rewards) == {"shuffled"}
    assert set(plan.cell_recipe(cells["without object", 0]).rewards) == {"format", "temporal", "spatial"}
    assert plan.cell_recipe(cells["full", 0]).grpo["max_steps"] == 1


def test_the_table_in_the_docs_is_that_of_its_figures() -> None:
    """docs/learning.md shows docs/learning_table.json, and nothing written by hand."""
    docs = Path(__file__).parents[2] / "docs"
    found = json.loads((docs / "learning_table.json").read_text())
    page = (docs / "learning.md").read_text()
    assert as_markdown(as_lines(by_cell(found["records"]), found["minutes"])) in page
    assert as_markdown(found["hearing"]) in page
