"""Frames and sound stand where the model thinks they stand, on any clock."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from avst import prompt as prompt_module
from avst.interleave import chunks_agree, steady_fps
from avst.models.families import prompt_positions
from avst.models.tiny import make_tiny
from avst.types import Prompt
from tests.tiny_world import SMALL, load_plain, make_builder, make_clip, make_question

# Clocks on which transformers 5.23 places frames differently in processor and model: frames that do not fit into
# max_frames are spread over the clip (18 frames over 7 s), so such clocks come up.
ODD = {18 / 7: 15.0, 36 / 7: 14.8, 46 / 7: 14.6, 50 / 7: 14.6, 58 / 7: 14.6}
PLAIN = {2.0: 9.0, 1.0: 9.0, 25 / 12: 9.0, 1.1364: 9.0}


@pytest.fixture(scope="module")
def omni(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny("qwen2_5_omni", tmp_path_factory.mktemp("long") / "omni", **{**SMALL, "max_audio_s": 24})


def built(folder: Path, fps: float, seconds: float) -> tuple[Prompt, list[int], list[int]]:
    """A prompt; the times (in audio tokens) that the model gives its audio tokens; and those of its video tokens."""
    model = load_plain(folder)
    clip = make_clip(seconds, fps=fps, size=(28, 28))
    prompt = make_builder(folder).build(make_question(), clip)
    times = prompt_positions(model, prompt)[0]
    start = int((prompt.input_ids == model.config.audio_start_token_id).nonzero()[0, 0])
    base = int(times[start]) + 1
    heard, seen = (
        (times[prompt.input_ids == token] - base).tolist()
        for token in (model.config.audio_token_id, model.config.video_token_id)
    )
    return prompt, heard, seen


@pytest.mark.parametrize("fps", [*ODD, *PLAIN])
def test_every_token_has_the_time_of_its_kind(omni: Path, fps: float) -> None:
    """The i-th audio token stands at i, the i-th grid (one token here) at its own second, whatever the clock."""
    _, heard, seen = built(omni, fps, (ODD | PLAIN)[fps])
    assert heard == list(range(len(heard)))
    assert np.abs(np.array(seen) - np.arange(len(seen)) * 2 / fps * 25).max() <= 1.01


@pytest.mark.parametrize("fps", ODD)
def test_without_the_nudge_they_would_not(omni: Path, monkeypatch: pytest.MonkeyPatch, fps: float) -> None:
    monkeypatch.setattr(prompt_module, "steady_fps", lambda fps, *_: fps)
    _, heard, _ = built(omni, fps, ODD[fps])
    assert heard != list(range(len(heard)))


def test_clocks_that_agree_are_left_alone() -> None:
    for fps in PLAIN:
        assert steady_fps(fps, 120, {}) == fps
    for fps in ODD:
        steady = steady_fps(fps, 120, {})
        assert steady != fps
        assert steady == pytest.approx(fps, rel=2e-5)


def test_any_clip_gets_a_clock() -> None:
    """Clips of 3 to 60 s in any number of frames: few clocks disagree, and none is refused."""
    random = np.random.default_rng(0)
    odd = 0
    for _ in range(3000):
        n_frames, seconds = int(random.integers(2, 129)), round(random.uniform(3, 61), int(random.integers(0, 3)))
        fps = n_frames / seconds
        odd += not chunks_agree(2 / fps, -(-n_frames // 2), 25, 50)
        steady = steady_fps(fps, n_frames, {"position_id_per_seconds": 25, "seconds_per_chunk": 2.0})
        assert chunks_agree(2 / steady, -(-n_frames // 2), 25, 50)
    assert 0 < odd < 100


def test_the_models_arithmetic_is_the_librarys() -> None:
    """chunks_agree multiplies as transformers does: numpy's float64 there, torch's float32 here."""
    for fps in ODD:
        numbers, seconds = torch.arange(60), torch.tensor([2 / fps], dtype=torch.float64)[0]
        placed = (numbers * seconds.cpu().float() * 25).long().numpy()
        ours = np.trunc(np.arange(60).astype(np.float32) * np.float32(2 / fps) * np.float32(25))
        assert (placed == ours).all()
