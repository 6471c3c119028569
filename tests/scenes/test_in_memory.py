"""Fresh scenes without a file: the same questions, and what the encoder and the decoder leave of picture and sound."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from avst.errors import AvstError
from avst.media import MediaSettings, load_clip
from avst.scenes.in_memory import scene_clip, scene_questions
from avst.scenes.plan import plan_scene
from avst.scenes.settings import make_settings
from avst.scenes.synthesise import synthesise
from avst.tasks.r_avst import load_annotations


@pytest.mark.parametrize("difficulty", ["quickstart", "medium"])
def test_a_scene_in_memory_is_the_scene_of_the_files(difficulty: str, tmp_path: Path) -> None:
    settings = make_settings(difficulty, fps=("8",), resolutions=((112, 112),), questions_per_clip=3)
    made = synthesise(tmp_path / "scenes", 3, 4, settings, n_eval=1)
    written = [q for file in made.annotations.values() for q in load_annotations(file)]
    scenes = [plan_scene(settings, 4, i) for i in range(3)]
    ours = [q for scene in scenes for q in scene_questions(scene, settings)]
    assert sorted(ours, key=lambda q: q.id) == sorted(written, key=lambda q: q.id)
    assert ours
    for scene in scenes:
        clip = scene_clip(scene, 2.0)
        decoded = load_clip(made.videos / f"{scene.name}.mp4", MediaSettings(fps=2.0, audio_rate=16000))
        assert clip.source_size == decoded.source_size
        assert clip.duration_s == pytest.approx(decoded.duration_s, abs=0.05)
        n = min(len(clip.frames), len(decoded.frames))
        assert n >= len(clip.frames) - 1
        np.testing.assert_allclose(clip.times_s[:n], decoded.times_s[:n], atol=0.01)
        assert np.abs(clip.frames[:n].astype(float) - decoded.frames[:n]).mean() < 10  # of 255: what the encoder took
        assert decoded.audio is not None
        assert clip.audio is not None
        m = min(clip.audio.size, decoded.audio.size)
        assert np.corrcoef(clip.audio[:m], decoded.audio.reshape(-1)[:m])[0, 1] > 0.9


def test_a_rate_that_is_no_part_of_the_scenes_is_refused() -> None:
    with pytest.raises(AvstError, match="no multiple of 3"):
        scene_clip(plan_scene(make_settings("quickstart"), 0, 0), 3.0)
