"""The learning table's controls: totals dealt out at random, and clips with another sound."""

from __future__ import annotations

from pathlib import Path

import numpy as np

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
