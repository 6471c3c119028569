"""What a prompt keeps for a vLLM: handed over by the loader's workers, and into a file and out of it, unchanged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from avst.hand_over import Parcel
from avst.types import Shown
from avst.vllm_rollout.container import data_url
from tests.tiny_world import make_builder, make_clip, make_question
from tests.vllm_rollout.tiny_vllm import unpacked


@pytest.mark.parametrize(
    ("size", "fps", "samples"), [((84, 56), 18 / 7, 12345), ((28, 56), 0.5, 1), ((30, 34), 2.0, 0)]
)
def test_a_file_gives_back_frames_and_samples(size: tuple[int, int], fps: float, samples: int) -> None:
    draws = np.random.default_rng(0)
    frames = draws.integers(0, 256, (5, size[1], size[0], 3), dtype=np.uint8)
    sound = draws.normal(0, 0.3, samples).astype(np.float32)
    made_of = Shown(None, [], torch.from_numpy(frames), fps, torch.from_numpy(sound) if samples else None, 16000)
    found = unpacked(data_url(made_of))
    assert found.frames is not None
    assert np.array_equal(found.frames, frames)
    assert (found.audio is None) == (samples == 0)
    if found.audio is not None:
        assert np.array_equal(found.audio, sound)


def test_siblings_share_the_clip_and_ask_their_own(tiny_folders: dict[str, Path]) -> None:
    builder = make_builder(tiny_folders["qwen2_5_omni"], keep_shown=True)
    clip, questions = make_clip(3.0), [make_question(0), make_question(1, "Where is the man with the red hat?")]
    _, second = builder.build_all(questions, clip)
    alone = builder.build(questions[1], clip)
    assert second.shown is not None and alone.shown is not None  # noqa: PT018
    assert torch.equal(second.shown.text_ids, alone.shown.text_ids)
    assert second.shown.messages == alone.shown.messages
    assert second.shown.processor == alone.shown.processor
    opened = Parcel(second).open()
    for ours, theirs in ((second.shown.frames, opened.shown.frames), (second.shown.audio, opened.shown.audio)):
        assert torch.equal(ours, theirs)
    assert np.array_equal(second.shown.frames, clip.frames)
    assert opened.shown.processor == second.shown.processor


def test_prompts_keep_nothing_unless_asked(tiny_folders: dict[str, Path]) -> None:
    kept, bare = (
        make_builder(tiny_folders["qwen2_5_vl"], keep_shown=keep).build(make_question(), make_clip(2.0))
        for keep in (True, False)
    )
    assert bare.shown is None
    assert replace(kept, shown=None).input_ids.tolist() == bare.input_ids.tolist()
