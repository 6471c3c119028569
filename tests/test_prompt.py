"""Prompts: what is shared, how frames are sized, which way coordinates go, what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from qwen_vl_utils import vision_process

from avst.errors import AvstError
from avst.match import box_iou
from avst.models.families import Family
from avst.prompt import PromptBuilder, frame_size
from avst.tasks.r_avst import load_annotations
from avst.types import NOT_VISIBLE, Answer, AnswerObject, Prompt, Space, Track
from tests.tiny_world import make_builder, make_clip, make_question

KINDS = ("qwen2_5_vl", "qwen2_5_omni")
TEXTS = ("When does the dog sound?", "Where?", "Which of the two men is louder, and when is that heard?\n[3, 5]")


@pytest.mark.parametrize("sound", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_siblings_are_what_one_by_one_would_be(tiny_folders: dict[str, Path], kind: str, sound: bool) -> None:
    """Three questions about one clip share its tensors and are otherwise as if each had been built alone."""
    builder, clip = make_builder(tiny_folders[kind]), make_clip(3.5, sound=sound)
    questions = [make_question(i, text) for i, text in enumerate(TEXTS)]
    together = builder.build_all(questions, clip)
    for question, ours in zip(questions, together, strict=True):
        alone = builder.build(question, clip)
        assert ours.question is question
        assert torch.equal(ours.input_ids, alone.input_ids)
        assert ours.media.keys() == alone.media.keys()
        for name, value in alone.media.items():
            assert torch.equal(torch.as_tensor(ours.media[name]), torch.as_tensor(value)), name
        assert (ours.space, ours.clip_digest) == (alone.space, alone.clip_digest)
        assert ours.features is together[0].features, "what frozen towers make of the clip is shared"
        assert ours.media["pixel_values_videos"] is together[0].media["pixel_values_videos"]
        assert ours.positions is None, "positions are of a prompt's own tokens"
    assert len({tuple(p.input_ids.tolist()) for p in together}) == 3


# ---- frames ----------------------------------------------------------------------------------------------------------

BOUNDS: dict[str, dict[str, int]] = {
    "library": {},
    "paper": {"min_pixels": 3136, "max_pixels": 12845056},
    "small": {"min_pixels": 16 * 28 * 28, "max_pixels": 64 * 28 * 28},
    "shared": {"min_pixels": 4 * 28 * 28, "total_pixels": 3584 * 28 * 28},
}


@pytest.mark.parametrize("bounds", BOUNDS)
def test_frame_size_is_qwen_vl_utils_own(monkeypatch: pytest.MonkeyPatch, bounds: str) -> None:
    """`fetch_video` itself, given a reader without a file, says to which size it would resize."""
    sizes: list[list[int]] = []

    def resize(video: torch.Tensor, size: list[int], **_: Any) -> torch.Tensor:
        sizes.append(size)
        return torch.zeros(1)

    def reader(ele: dict[str, Any]) -> tuple[torch.Tensor, dict[str, Any], float]:
        width, height, n_frames = ele["shape"]
        return torch.zeros(1).expand(n_frames, 3, height, width), {}, 2.0

    monkeypatch.setattr(vision_process.transforms.functional, "resize", resize)
    monkeypatch.setattr(vision_process, "get_video_reader_backend", lambda: "none")
    monkeypatch.setitem(vision_process.VIDEO_READER_BACKENDS, "none", reader)
    shapes = [(w, h) for w in (32, 320, 640, 853, 1280, 1920) for h in (56, 240, 480, 720, 1080)]
    for width, height in shapes:
        for n_frames in (2, 16, 120, 700):
            sizes.clear()
            vision_process.fetch_video({"video": "x", "shape": (width, height, n_frames), **BOUNDS[bounds]})
            rows, columns = sizes[0]
            assert frame_size(width, height, n_frames, **BOUNDS[bounds]) == (columns, rows)
            assert rows % 28 == columns % 28 == 0


# ---- coordinates -----------------------------------------------------------------------------------------------------


def prompt_in(space: Space, question: Any) -> Prompt:
    return Prompt(question, torch.zeros(1, dtype=torch.long), {}, space)


def test_both_ways_by_hand() -> None:
    """A frame of 1280 x 720 that the model saw at 644 x 364: sides go by 644/1280 and 364/720."""
    space = Space((1280, 720), (644, 364))
    seen = space.to_model((100.0, 200.0, 300.0, 400.0))
    assert seen == pytest.approx((50.3125, 101.1111, 150.9375, 202.2222), abs=1e-4)
    assert space.to_source(seen) == pytest.approx((100, 200, 300, 400))


@pytest.mark.parametrize("thousand", [False, True], ids=["pixels", "thousand"])
def test_the_frame_sets_the_space(tiny_folders: dict[str, Path], thousand: bool) -> None:
    """Source 168 x 112, shown at 84 x 56: the model's [0, 0, 42, 28] is the upper left quarter; Qwen3 says 500."""
    builder = make_builder(tiny_folders["qwen2_5_vl"])
    builder.family = Family("", thousand=thousand)
    box = (0.0, 0.0, 84.0, 56.0)
    gold = Answer((AnswerObject("dog", track=Track((1.0, 2.0), (box, NOT_VISIBLE))),), tags=frozenset({"where"}))
    prompt = builder.build(replace(make_question(task="spatial"), gold=gold), make_clip())
    said = builder.gold(prompt)
    assert ("[0, 0, 500, 500]" if thousand else "[0, 0, 42, 28]") in said
    read = builder.read(said, prompt)
    assert read.objects[0].track == Track((1.0, 2.0), (box, NOT_VISIBLE))


def test_real_gold_answers_survive(shared_data: Path, tiny_folders: dict[str, Path]) -> None:
    """All 777 gold answers as the model should say them, read back: names, times and 'not visible' as they were, every
    edge within half a pixel of the model's frame (or the pixel that a thin box is widened to)."""
    builder = make_builder(tiny_folders["qwen2_5_vl"])
    ious: list[float] = []
    for question in load_annotations(shared_data / "r_avst_dev_QA.json"):
        space = Space((1280, 720), frame_size(1280, 720, 40, 3136, 12845056))
        prompt = prompt_in(space, question)
        read = builder.read(builder.gold(prompt), prompt)
        assert read.problems == {}, question.id
        assert [o.name for o in read.objects] == [o.name for o in question.gold.objects]
        for ours, gold in zip(read.objects, question.gold.objects, strict=True):
            assert ours.intervals == gold.intervals
            assert ours.track.times_s == gold.track.times_s
            for box, wanted in zip(ours.track.boxes_px, gold.track.boxes_px, strict=True):
                if wanted == NOT_VISIBLE:
                    assert box == NOT_VISIBLE, question.id
                    continue
                off = np.abs(np.subtract(space.to_model(box), space.to_model(wanted)))
                assert off.max() <= 0.5 + 1e-6 or ((off <= 1.5).all() and min(np.subtract(wanted[2:], wanted[:2])) < 4)
                ious.append(box_iou(box, wanted))
    assert len(ious) > 1000
    assert np.mean(ious) > 0.97


# ---- what is refused -------------------------------------------------------------------------------------------------


def test_a_text_that_is_too_long_is_refused(tiny_folders: dict[str, Path]) -> None:
    """Media tokens do not count; the same limit holds for a sibling."""
    clip = make_clip(6.0)
    fits = make_question(0, "Where?")
    free = make_builder(tiny_folders["qwen2_5_omni"])
    n_media = sum(
        int((free.build(fits, clip).input_ids == free.processor.tokenizer.convert_tokens_to_ids(token)).sum())
        for token in (free.processor.video_token, free.processor.audio_token)
    )
    limit = len(free.build(fits, clip).input_ids) - n_media
    builder = make_builder(tiny_folders["qwen2_5_omni"], max_text_tokens=limit)
    assert n_media > limit / 4
    builder.build(fits, clip)
    long = make_question(7, "Where is it now?")
    for ask in (lambda: builder.build(long, clip), lambda: builder.build_all([fits, long], clip)):
        with pytest.raises(AvstError, match=rf"clip7/.*: the text takes \d+ tokens, .*max_text_tokens is {limit}"):
            ask()


def test_sound_that_the_processor_would_cut_is_refused(tiny_folders: dict[str, Path]) -> None:
    builder = make_builder(tiny_folders["qwen2_5_omni"])
    builder.build(make_question(), make_clip(12.0))
    clip = replace(make_clip(12.5), provenance={"path": "videos/long.mp4"})
    with pytest.raises(AvstError, match=r"videos/long.mp4: 12.5 s of sound; this model's processor cuts at 12 s"):
        builder.build(make_question(), clip)


def test_an_audio_prompt_without_sound_is_refused(tiny_folders: dict[str, Path]) -> None:
    for kind, sound in (("qwen2_5_omni", False), ("qwen2_5_vl", True)):
        with pytest.raises(AvstError, match=r"clip0/.*an audio prompt needs"):
            make_builder(tiny_folders[kind]).build_audio(make_question(), make_clip(sound=sound))


def test_a_processor_that_forgets_the_clock_is_seen(
    tiny_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    builder = make_builder(tiny_folders["qwen2_5_omni"])
    process = PromptBuilder._process

    def at_two(self: PromptBuilder, text: str, clip: Any, video: bool) -> Any:
        return process(self, text, replace(clip, fps=2.0), video)

    monkeypatch.setattr(PromptBuilder, "_process", at_two)
    with pytest.raises(AvstError, match=r"seconds per grid, the clip.s clock 2\.0"):
        builder.build(make_question(), make_clip(4.0, fps=1.0))
