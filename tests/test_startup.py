"""The start-up check lets equal paths pass and names what differs; it must see a wrong clock or a lost track."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from avst import startup
from avst.errors import AvstError
from avst.models.families import prompt_positions
from avst.rollout import Sampling, end_tokens, rollout
from avst.startup import check_paths
from avst.types import Group, Prompt
from tests.tiny_world import load_grouped, make_builder, make_clip, make_question, text_tokens

CASES: dict[str, tuple[str, Callable[[Any], Prompt]]] = {
    "VL": ("qwen2_5_vl", lambda builder: builder.build(make_question(), make_clip(5.0))),
    "Omni": ("qwen2_5_omni", lambda builder: builder.build(make_question(), make_clip(5.0))),
    "Omni, silent": ("qwen2_5_omni", lambda builder: builder.build(make_question(), make_clip(5.0, sound=False))),
    "Omni, sound": ("qwen2_5_omni", lambda builder: builder.build_audio(make_question(), make_clip(5.0))),
    "text": ("qwen2_5_omni", lambda builder: builder.build_text(make_question())),
}


def drawn(
    folders: dict[str, Path], case: str, dtype: torch.dtype = torch.float64, **sampling: Any
) -> tuple[Any, Group]:
    kind, build = CASES[case]
    model, builder = load_grouped(folders[kind], dtype), make_builder(folders[kind])
    ends, pad = end_tokens(model, builder.processor.tokenizer)
    torch.manual_seed(0)
    options = {"max_new_tokens": 6, "temperature": 0.9} | sampling
    return model, rollout(model, [build(builder)], 3, Sampling(**options), ends, pad)[0]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("case", CASES)
def test_passes(tiny_folders: dict[str, Path], case: str, dtype: torch.dtype) -> None:
    model, group = drawn(tiny_folders, case, dtype)
    gaps = check_paths(model, group, 0.9)
    assert set(gaps) == {"rollout", "plain forward"}
    assert max(gaps.values()) < startup.TOLERANCE[dtype] / 10


@pytest.mark.parametrize("sampling", [{"temperature": 0}, {"repetition_penalty": 1.4}, {"top_k": 5, "top_p": 0.5}])
def test_passes_however_answers_are_drawn(tiny_folders: dict[str, Path], sampling: dict[str, Any]) -> None:
    model, group = drawn(tiny_folders, "Omni", **sampling)
    check_paths(model, group, sampling.get("temperature", 0.9))


def test_an_answer_with_a_media_token_is_compared_with_the_rollout_alone(tiny_folders: dict[str, Path]) -> None:
    model, group = drawn(tiny_folders, "VL")
    group.completion_ids[0] = [model.config.video_token_id, *text_tokens(group.prompt, 2, 0)]
    group.sampled_logps[0] = [0.0] * 3
    with pytest.raises(AvstError, match="of the rollout"):
        check_paths(model, group, 0.9)


def test_a_wrong_temperature_is_seen(tiny_folders: dict[str, Path]) -> None:
    model, group = drawn(tiny_folders, "VL")
    with pytest.raises(AvstError, match="clip0/0/temporal/0: training and generation do not see the same prompt"):
        check_paths(model, group, 1.0)


def _seconds_doubled(prompt: Prompt) -> None:
    key = "second_per_grid_ts" if "second_per_grid_ts" in prompt.media else "video_second_per_grid"
    prompt.media[key] = torch.as_tensor(prompt.media[key]) * 2


def _interleave_dropped(prompt: Prompt) -> None:
    del prompt.media["use_audio_in_video"]


WRONGS = [
    pytest.param("VL", _seconds_doubled, id="VL, seconds per grid"),
    pytest.param("Omni", _seconds_doubled, id="Omni, seconds per grid"),
    pytest.param("Omni", _interleave_dropped, id="Omni, interleaving"),
]


@pytest.mark.parametrize(("case", "wrong"), WRONGS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_prompt_that_the_library_reads_otherwise_is_seen(
    tiny_folders: dict[str, Path], case: str, wrong: Callable[[Prompt], None], dtype: torch.dtype
) -> None:
    """Rollout and packed forward share positions that were worked out before; the plain forward works out its own."""
    model, group = drawn(tiny_folders, case, dtype)
    wrong(group.prompt)
    with pytest.raises(AvstError, match="plain forward"):
        check_paths(model, group, 0.9)


@pytest.mark.parametrize(("case", "wrong"), WRONGS)
def test_other_positions_in_training_are_seen(
    tiny_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, case: str, wrong: Callable[[Prompt], None]
) -> None:
    """Training alone gets positions of the wrong clock: neither the rollout nor the plain forward agrees."""
    model, group = drawn(tiny_folders, case)
    kept, media = group.prompt.positions, dict(group.prompt.media)
    group.prompt.positions = None
    wrong(group.prompt)
    other = prompt_positions(model, group.prompt)
    group.prompt.media = media
    assert other.shape == kept.shape
    assert not torch.equal(other, kept)
    with pytest.raises(AvstError, match="of the rollout are"):
        check_paths(model, group, 0.9)
