"""What tests of the model side share: tiny models in float64, prompts about clips made on the spot, and the plain
computation that everything packed is compared with.

`plain_logps` never touches avst's packing, positions or features: it gives the library's own forward one row an answer,
with the processor's tensors as they came.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoConfig, AutoProcessor, PreTrainedModel

from avst.models.families import family_of, model_class
from avst.models.policy import understand_groups
from avst.prompt import PromptBuilder, audio_clock_of
from avst.types import Answer, AnswerObject, Clip, Interval, Prompt, Question, Task

SMALL: dict[str, Any] = {
    "hidden": 32,
    "layers": 2,
    "heads": 2,
    "kv_heads": 1,
    "vision_hidden": 16,
    "audio_hidden": 16,
    "max_audio_s": 12,
}
RATE = 16000


def make_question(number: int = 0, text: str = "When does the dog sound?", task: Task = "temporal") -> Question:
    gold = Answer((AnswerObject("dog", (Interval(1.0, 3.0),)),), tags=frozenset({"object", "when"}))
    return Question(f"clip{number}/0/{task}/0", task, text, f"clip{number}", 4.0, gold, "<answer>…</answer>")


def make_clip(
    seconds: float = 3.0,
    sound: bool = True,
    seed: int = 0,
    fps: float = 2.0,
    size: tuple[int, int] = (84, 56),
    source: tuple[int, int] = (168, 112),
) -> Clip:
    """Noise to look at and to hear; size and source are (width, height) in px."""
    random = np.random.default_rng(seed)
    count = round(seconds * fps)
    frames = random.integers(0, 256, (count, size[1], size[0], 3), dtype=np.uint8)
    heard = random.normal(0, 0.1, round(seconds * RATE)).astype(np.float32) if sound else None
    return Clip(frames, np.arange(count) / fps, fps, source, seconds, heard, RATE, {"digest": f"clip{seed}"})


def load_plain(folder: Path, dtype: torch.dtype = torch.float64) -> PreTrainedModel:
    """The library's model as it is, in evaluation mode, its weights made livelier: at the library's initialisation
    (std 0.02) attention is nearly uniform, and a wrong position would hardly show."""
    model = model_class(AutoConfig.from_pretrained(folder)).from_pretrained(folder, dtype=dtype).eval()
    with torch.no_grad():
        for name, parameter in model.model.language_model.named_parameters():
            if parameter.ndim == 2:
                parameter.mul_(6.0 if "q_proj" in name or "k_proj" in name else 2.0)
        model.lm_head.weight.mul_(4.0)
    return model


def load_grouped(folder: Path, dtype: torch.dtype = torch.float64) -> PreTrainedModel:
    """The same weights with avst's packed forward."""
    return understand_groups(load_plain(folder, dtype))


def make_builder(folder: Path, **options: Any) -> PromptBuilder:
    config = AutoConfig.from_pretrained(folder)
    return PromptBuilder(
        AutoProcessor.from_pretrained(folder), family_of(config), audio_clock=audio_clock_of(config), **options
    )


def plain_logps(model: Any, prompt: Prompt, answer: Sequence[int], temperature: float = 1.0) -> Tensor:
    """(C,) log-probs of one answer by the library's own forward over [prompt | answer]."""
    ids = torch.cat([prompt.input_ids, torch.tensor(answer)])[None]
    media = {key: value for key, value in prompt.media.items() if key != "mm_token_type_ids"}
    if (kinds := prompt.media.get("mm_token_type_ids")) is not None:
        media["mm_token_type_ids"] = torch.cat([kinds, kinds.new_zeros(1, len(answer))], dim=1)
    if "input_features" in media:
        media["input_features"] = media["input_features"].to(model.dtype)
    logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False, **media).logits[0]
    scores = (logits[len(prompt.input_ids) - 1 : -1] / temperature).log_softmax(-1)
    return scores.gather(-1, torch.tensor(answer)[:, None]).squeeze(-1)


def text_tokens(prompt: Prompt, n: int, seed: int) -> list[int]:
    """n token ids below the special ones: an answer as a model might sample it, without media tokens."""
    special = int(prompt.input_ids[0])  # <|im_start|>
    low = 300 if special > 400 else 3
    return torch.randint(low, low + 100, (n,), generator=torch.manual_seed(seed)).tolist()
