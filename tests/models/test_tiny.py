"""The tiny models are ordinary checkpoints that AutoProcessor and the model classes load; they see and hear in time."""

from __future__ import annotations

import copy
import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    AutoConfig,
    AutoProcessor,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5OmniThinkerForConditionalGeneration,
    Qwen2Tokenizer,
)
from transformers.video_utils import VideoMetadata

from avst.errors import AvstError
from avst.models.tiny import make_tiny
from avst.models.tiny_kinds import KINDS
from avst.models.tiny_tokenizer import ANSWER_TAGS, train_tokenizer

CLASSES = {
    "qwen2_5_vl": Qwen2_5_VLForConditionalGeneration,
    "qwen2_5_omni": Qwen2_5OmniThinkerForConditionalGeneration,
}
SMALL: dict[str, Any] = {
    "hidden": 64,
    "layers": 2,
    "heads": 2,
    "kv_heads": 1,
    "vision_hidden": 32,
    "audio_hidden": 32,
    "max_audio_s": 12,
}
RATE = 16000


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("tiny")
    return {kind: make_tiny(kind, root / kind, **SMALL) for kind in KINDS}


@pytest.fixture(scope="module")
def tokenizer() -> Qwen2Tokenizer:
    return train_tokenizer(KINDS["qwen2_5_omni"])


def load(folder: Path) -> tuple[Any, Any]:
    model = CLASSES[folder.name].from_pretrained(folder).eval()
    return model, AutoProcessor.from_pretrained(folder)


def frames(seconds: float, width: int = 84, height: int = 56, fps: float = 2.0) -> torch.Tensor:
    count = round(seconds * fps)
    return torch.randint(0, 256, (count, 3, height, width), generator=torch.manual_seed(0), dtype=torch.uint8)


def sound(seconds: float) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, round(seconds * RATE)).astype(np.float32)


def inputs_for(
    processor: Any, video: torch.Tensor | None = None, audio: np.ndarray | None = None, fps: float = 2.0
) -> Any:
    """The documented call for each case; frames are already of their final size and on their final clock."""
    parts = [{"type": "video" if video is not None else "audio"}, {"type": "text", "text": "When does the dog sound?"}]
    text = processor.apply_chat_template(
        [{"role": "user", "content": parts}], tokenize=False, add_generation_prompt=True
    )
    arguments: dict[str, Any] = {"text": [text], "return_tensors": "pt"}
    if video is not None:
        metadata = VideoMetadata(total_num_frames=len(video), fps=fps, frames_indices=list(range(len(video))))
        arguments["videos"] = [video]
        arguments["videos_kwargs"] = {
            "do_sample_frames": False,
            "do_resize": False,
            "fps": fps,
            "video_metadata": [metadata],
        }
    if audio is not None:
        arguments["audio"] = [audio]
        if video is not None:
            arguments |= {"load_audio_from_video": True, "audio_from_video_indices": [0]}
    inputs = processor(**arguments)
    if video is not None and audio is not None:
        inputs["use_audio_in_video"] = True
    return inputs


CASES: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "VL, video": ("qwen2_5_vl", lambda p: inputs_for(p, video=frames(5.5))),
    "Omni, video with its sound": ("qwen2_5_omni", lambda p: inputs_for(p, video=frames(5.5), audio=sound(5.37))),
    "Omni, video alone": ("qwen2_5_omni", lambda p: inputs_for(p, video=frames(5.5))),
    "Omni, sound alone": ("qwen2_5_omni", lambda p: inputs_for(p, audio=sound(5.37))),
}


@pytest.mark.parametrize("case", CASES)
def test_generate_follows_the_full_forward(folders: dict[str, Path], case: str) -> None:
    """Four greedy tokens from the cache are those of four forwards over the whole text."""
    kind, build = CASES[case]
    model, processor = load(folders[kind])
    inputs = build(processor)
    with torch.no_grad():
        generated = model.generate(**copy.copy(inputs), max_new_tokens=4, min_new_tokens=4, do_sample=False)
        ids = inputs.pop("input_ids")
        inputs.pop("attention_mask")
        kinds = inputs.pop("mm_token_type_ids", None)
        ended = [processor.tokenizer.convert_tokens_to_ids(t) for t in ("<|im_end|>", "<|endoftext|>")]
        for _ in range(4):
            extra = {} if kinds is None else {"mm_token_type_ids": kinds}
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), **inputs, **extra).logits[0, -1]
            logits[ended] = -torch.inf
            ids = torch.cat([ids, logits.argmax().view(1, 1)], 1)
            kinds = None if kinds is None else torch.cat([kinds, torch.zeros_like(kinds[:, :1])], 1)
    assert generated.tolist() == ids.tolist()


@pytest.mark.parametrize("case", CASES)
def test_logits_survive_saving_and_loading(folders: dict[str, Path], tmp_path: Path, case: str) -> None:
    kind, build = CASES[case]
    model, processor = load(folders[kind])
    model.save_pretrained(tmp_path / kind)
    processor.save_pretrained(tmp_path / kind)
    again, processor_again = load(tmp_path / kind)
    with torch.no_grad():
        before, after = model(**build(processor)).logits, again(**build(processor_again)).logits
    assert torch.equal(before, after)
    assert before.std() > 0


def test_what_is_seen_and_heard_reaches_the_logits(folders: dict[str, Path]) -> None:
    model, processor = load(folders["qwen2_5_omni"])
    base = inputs_for(processor, frames(4), sound(4))
    other_picture = inputs_for(processor, 255 - frames(4), sound(4))
    other_sound = inputs_for(processor, frames(4), np.roll(sound(4), RATE) * 0.3)
    with torch.no_grad():
        logits = [model(**x).logits[0, -1] for x in (base, other_picture, other_sound)]
    assert (logits[0] - logits[1]).abs().max() > 1e-5
    assert (logits[0] - logits[2]).abs().max() > 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_every_token_id_of_the_config_is_the_tokenizers(folders: dict[str, Path], kind: str) -> None:
    config, processor = AutoConfig.from_pretrained(folders[kind]), AutoProcessor.from_pretrained(folders[kind])
    vocabulary = processor.tokenizer.get_vocab()
    family = KINDS[kind]
    named = {
        "image_token_id": family.image[1],
        "video_token_id": family.video[1],
        "vision_start_token_id": family.video[0],
        "vision_end_token_id": family.video[2],
        "eos_token_id": "<|im_end|>",
        "pad_token_id": "<|endoftext|>",
    }
    if family.audio is not None:
        names = ("audio_start_token_id", "audio_token_id", "audio_end_token_id", "user_token_id")
        named |= dict(zip(names, (*family.audio, "user"), strict=True))
        for attribute, token in family.tokenizer_attributes.items():
            assert getattr(processor.tokenizer, attribute) == token
            assert getattr(processor.tokenizer, attribute + "_id") == vocabulary[token]
    for name, token in named.items():
        assert getattr(config, name) == vocabulary[token], name
    found = {name for name in config.to_dict() if "token_i" in name and "bos" not in name}
    aliases = {"image_token_index", "video_token_index", "audio_token_index"}
    assert found - aliases <= set(named), "an id of the config is not checked here"
    assert config.text_config.eos_token_id == vocabulary["<|im_end|>"]
    assert max(vocabulary.values()) == len(vocabulary) - 1 < config.text_config.vocab_size


@pytest.mark.parametrize("seconds", [0.1, 0.5, 1.0, 1.01, 2.0, 2.005, 3.999, 7.53, 8.0, 11.9999])
def test_sound_of_any_length_fills_its_placeholders(folders: dict[str, Path], seconds: float) -> None:
    """Placeholders in the text = what the tower gives = a quarter of the mel frames (the model's two formulas)."""
    model, processor = load(folders["qwen2_5_omni"])
    inputs = inputs_for(processor, audio=sound(seconds))
    placeholders = int((inputs["input_ids"] == model.config.audio_token_id).sum())
    n_mel = -(-round(seconds * RATE) // 160)
    assert int(inputs["feature_attention_mask"].sum()) == n_mel
    halved = (n_mel + 1) // 2
    assert placeholders == halved // 2
    with torch.no_grad():
        features = model.get_audio_features(
            inputs["input_features"], inputs["feature_attention_mask"], return_dict=True
        )
    assert features.last_hidden_state.shape[0] == placeholders
    assert abs(placeholders / 25 - seconds) < 0.05, "audio token i must be heard at i / 25 seconds"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("fps", "seconds_per_grid"), [(2.0, 1.0), (1.0, 2.0), (4.0, 0.5)])
def test_video_tokens_and_seconds_per_grid(
    folders: dict[str, Path], kind: str, fps: float, seconds_per_grid: float
) -> None:
    processor = AutoProcessor.from_pretrained(folders[kind])
    inputs = inputs_for(processor, frames(5, width=140, height=84, fps=fps), fps=fps)
    n_frames = round(5 * fps)
    grid = [-(-n_frames // 2), 84 // 14, 140 // 14]
    assert inputs["video_grid_thw"].tolist() == [grid]
    assert int((inputs["input_ids"] == processor.video_token_id).sum()) == grid[0] * 3 * 5
    seconds = inputs.get("second_per_grid_ts", inputs.get("video_second_per_grid"))
    assert torch.as_tensor(seconds).tolist() == [seconds_per_grid]


def test_sound_and_picture_are_interleaved_by_time(folders: dict[str, Path]) -> None:
    """Three seconds at 2 fps, one row of three tokens a grid: all positions worked out by hand."""
    model, processor = load(folders["qwen2_5_omni"])
    inputs = inputs_for(processor, frames(3, width=84, height=28), sound(3))
    ids = inputs["input_ids"]
    config = model.config
    positions, _ = model.get_rope_index(
        ids,
        video_grid_thw=inputs["video_grid_thw"],
        attention_mask=torch.ones_like(ids),
        use_audio_in_video=True,
        audio_seqlens=inputs["feature_attention_mask"].sum(-1),
        second_per_grids=inputs["video_second_per_grid"],
    )
    marks = [config.vision_start_token_id, config.audio_start_token_id]
    start = ids[0].tolist().index(marks[0])
    picture, heard = config.video_token_id, config.audio_token_id
    # chunks of two seconds: grids 0 s and 1 s, audio of 0-2 s; grid 2 s, audio of 2-3 s
    wanted_ids = [picture] * 6 + [heard] * 50 + [picture] * 3 + [heard] * 25
    assert ids[0, start : start + 2].tolist() == marks
    assert ids[0, start + 2 : start + 2 + 84].tolist() == wanted_ids
    assert ids[0, start + 86 : start + 88].tolist() == [config.audio_end_token_id, config.vision_end_token_id]
    base = start + 1  # both opening marks stand at the same position, the media follow
    time, height, width = (positions[:, 0, start + 2 : start + 86] - base).tolist()
    audio_times = list(range(75))
    assert time == [0, 0, 0, 25, 25, 25, *audio_times[:50], 50, 50, 50, *audio_times[50:]]
    assert height == [0] * 6 + audio_times[:50] + [0] * 3 + audio_times[50:]
    assert width == [0, 1, 2] * 2 + audio_times[:50] + [0, 1, 2] + audio_times[50:]
    assert (positions[:, 0, start + 86] - base).tolist() == [75, 75, 75]


@pytest.mark.parametrize("kind", KINDS)
def test_neighbouring_columns_differ_for_the_attention(folders: dict[str, Path], kind: str) -> None:
    """Each axis gets a frequency that turns by a tenth of a radian a step: the reason for the interleaved deal."""
    model, _ = load(folders[kind])
    rotary = model.model.language_model.rotary_emb
    for axis in range(3):
        step = torch.zeros(3, 1, 1, dtype=torch.long)
        step[axis] = 1
        cosine, sine = rotary(torch.zeros(1), step)
        turns = torch.atan2(sine, cosine).abs()
        assert turns.max() > 0.1, f"axis {axis} turns by {float(turns.max()):.1e}"


def test_gradient_reaches_all_but_one_parameter(folders: dict[str, Path]) -> None:
    model, processor = load(folders["qwen2_5_omni"])
    model.train()
    model(**inputs_for(processor, frames(5), sound(5))).logits.logsumexp(-1).sum().backward()
    without = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert without == ["model.audio_tower.audio_bos_eos_token.weight"]


@pytest.mark.parametrize("kind", KINDS)
def test_template(folders: dict[str, Path], kind: str) -> None:
    processor = AutoProcessor.from_pretrained(folders[kind])
    video = "".join(KINDS[kind].video)
    content = [{"type": "video"}, {"type": "text", "text": "Where?"}]
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": content}]
    answered = [*turns, {"role": "assistant", "content": [{"type": "text", "text": "Here."}]}]
    head = f"<|im_start|>user\n{video}Where?<|im_end|>\n"
    system, default = "Be brief.", "You are a helpful assistant."
    for messages, prompted, wanted in (
        (turns, True, f"<|im_start|>system\n{system}<|im_end|>\n{head}<|im_start|>assistant\n"),
        (turns[1:], True, f"<|im_start|>system\n{default}<|im_end|>\n{head}<|im_start|>assistant\n"),
        (answered, False, f"<|im_start|>system\n{system}<|im_end|>\n{head}<|im_start|>assistant\nHere.<|im_end|>\n"),
    ):
        assert processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompted) == wanted


def test_same_arguments_same_weights_and_the_global_generator_is_left_alone(tmp_path: Path) -> None:
    torch.manual_seed(7)
    wanted = torch.rand(3)
    torch.manual_seed(7)
    one = make_tiny("qwen2_5_omni", tmp_path / "one", **SMALL)
    assert torch.equal(torch.rand(3), wanted)
    two = make_tiny("qwen2_5_omni", tmp_path / "two", **SMALL)
    other = make_tiny("qwen2_5_omni", tmp_path / "other", **SMALL, seed=1)
    for name in ("model.safetensors", "tokenizer.json", "config.json", "processor_config.json"):
        assert (one / name).read_bytes() == (two / name).read_bytes(), name
    assert (one / "model.safetensors").read_bytes() != (other / "model.safetensors").read_bytes()


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=80))
def test_any_text_survives_the_tokenizer(tokenizer: Qwen2Tokenizer, text: str) -> None:
    text = unicodedata.normalize("NFC", text)
    assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_answers_survive_and_are_short(tokenizer: Qwen2Tokenizer) -> None:
    text = (
        "<answer>\n<object>dog</object>\n<when>[3.0, 12.5]</when>\n<where>\n3.0: [7, 40, 60, 88]\n</where>\n</answer>"
    )
    ids = tokenizer(text).input_ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == text
    pieces = [tokenizer.decode([token]) for token in ids]
    assert [piece for piece in pieces if piece in ANSWER_TAGS] == list(
        ("<answer>", "<object>", "</object>", "<when>", "</when>", "<where>", "</where>", "</answer>")
    )
    assert "".join(piece for piece in pieces if piece.isdigit()) == "30125307406088"
    assert all(len(piece) == 1 for piece in pieces if any(c.isdigit() for c in piece))
    assert "dog" in pieces


def test_real_questions_and_answers_survive(tokenizer: Qwen2Tokenizer, shared_data: Path) -> None:
    videos = json.loads((shared_data / "r_avst_dev_QA.json").read_text())
    texts = [
        text
        for video in videos
        for event in video["annotation"]
        for items in event.values()
        if isinstance(items, list)
        for item in items
        for text in (item["Q"], item["A"])
    ]
    assert len(texts) == 2 * 777
    changed = [t for t in texts if tokenizer.decode(tokenizer(t).input_ids, skip_special_tokens=True) != t]
    assert changed == []


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"kind": "qwen9"}, "qwen9"),
        ({"hidden": 100, "heads": 8}, "hidden=100"),
        ({"heads": 4, "kv_heads": 3}, "kv_heads=3"),
        ({"audio_hidden": 30}, "audio_hidden=30"),
        ({"audio_tokens_per_second": 7}, "audio_tokens_per_second=7"),
    ],
)
def test_sizes_that_cannot_be_are_refused(tmp_path: Path, arguments: dict[str, Any], named: str) -> None:
    with pytest.raises(AvstError, match=named):
        make_tiny(**({"kind": "qwen2_5_omni", "out": tmp_path / "x"} | arguments))
    assert not (tmp_path / "x").exists()
