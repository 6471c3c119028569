"""What the forward benchmark times: one group's log-probs, forward and backward, packed and repeated.

Qwen2.5-VL with random weights in float32. Both arms run the same model, the same attention kernels and the same
log-prob head (avst.models.logprobs) on answer tokens alone; what differs is the prompt: once, or once an answer.

P: prompt tokens, G: answers, C: tokens of each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from avst.models.families import prompt_positions
from avst.models.logprobs import token_logps
from avst.models.packing import pack
from avst.models.policy import understand_groups
from avst.types import Answer, Prompt, Question, Space

WORDS = 1216  # of the tiny tokenizer's size: a head that weighs little beside the layers, as in the real models
VIDEO, IMAGE, START, END = range(1200, 1204)
IMAGE_GRID = (1, 24, 24)  # 336 px: 144 tokens


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a model. width: of the MLP;  depth: blocks of the vision tower, hidden 256."""

    hidden: int = 256
    layers: int = 6
    heads: int = 8
    kv_heads: int = 2
    width: int = 768
    depth: int = 1

    def build(self) -> Any:
        """A model in training mode that understands `packed=`; the same arguments give the same weights."""
        half = self.hidden // self.heads // 2
        height = 3 * half // 8  # the real deal of the rotary frequencies: 16, 24, 24 of 64
        text = {
            "vocab_size": WORDS,
            "hidden_size": self.hidden,
            "intermediate_size": self.width,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e6,
                "mrope_section": [half - 2 * height, height, height],
            },
        }
        vision = {
            "depth": self.depth,
            "hidden_size": 256,
            "intermediate_size": 512,
            "num_heads": 8,
            "out_hidden_size": self.hidden,
            "fullatt_block_indexes": [self.depth - 1],
        }
        config = Qwen2_5_VLConfig(
            text_config=text,
            vision_config=vision,
            video_token_id=VIDEO,
            image_token_id=IMAGE,
            vision_start_token_id=START,
            vision_end_token_id=END,
            tie_word_embeddings=False,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = Qwen2_5_VLForConditionalGeneration(config)
        return understand_groups(model.train(), "sdpa")

    def products(self, n_prompt: int, n_answers: int, size: int, packed: bool) -> float:
        """Multiplications of one group's forward pass (the backward pass has twice as many, in either arm).

        n_prompt: P, n_answers: G, size: C. Linear layers by token, attention by (query, key) pair that is not masked.
        """
        kv = self.hidden * self.kv_heads // self.heads
        token = self.layers * self.hidden * (2 * self.hidden + 2 * kv + 3 * self.width)
        pair = self.layers * 2 * self.hidden
        prompt = token * n_prompt + pair * n_prompt * (n_prompt + 1) / 2
        answer = (token + WORDS * self.hidden) * size + pair * size * (n_prompt + (size + 1) / 2)
        return (1 if packed else n_answers) * prompt + n_answers * answer


def text_prompt(tokens: int) -> Prompt:
    """P random words and no media: the language model alone."""
    prompt = _prompt(torch.randint(300, 400, (tokens,), generator=torch.manual_seed(0)), {})
    prompt.positions = torch.arange(tokens).expand(3, -1)
    return prompt


def image_prompt(model: Any, tokens: int, images: int) -> Prompt:
    """P tokens of which 144 an image are visual; pixels are random."""
    time, height, width = IMAGE_GRID
    patches = time * height * width
    one = [START, *[IMAGE] * (patches // 4), END]
    text = torch.randint(300, 400, (tokens - images * len(one),), generator=torch.manual_seed(0))
    ids = torch.cat([torch.tensor(one * images), text])
    media = {
        "pixel_values": torch.randn(images * patches, 3 * 2 * 14 * 14, generator=torch.manual_seed(1)),
        "image_grid_thw": torch.tensor([IMAGE_GRID] * images),
        "mm_token_type_ids": (ids == IMAGE).int()[None],
    }
    prompt = _prompt(ids, media)
    prompt_positions(model, prompt)
    return prompt


def _prompt(ids: Tensor, media: dict[str, Any]) -> Prompt:
    question = Question("bench", "temporal", "-", "", 0.0, gold=Answer(), gold_text="")
    return Prompt(question, ids, media, Space((1, 1), (1, 1)))


def words(count: int, size: int) -> list[list[int]]:
    """G answers of C random words."""
    drawn: list[list[int]] = torch.randint(300, 400, (count, size), generator=torch.manual_seed(2)).tolist()
    return drawn


def packed(model: Any, prompt: Prompt, answers: Sequence[Sequence[int]]) -> Callable[[], Tensor]:
    """avst's way: a call is one forward and backward, and returns the log-probs (ΣC,)."""

    def once() -> Tensor:
        model.zero_grad()
        logps: Tensor = model(packed=pack([prompt], [answers], [prompt.positions]))["logps"]
        _backward(logps)
        return logps.detach()

    return once


def repeated(model: Any, prompt: Prompt, answers: Sequence[Sequence[int]], batch: int = 1) -> Callable[[], Tensor]:
    """The repeated computation: rows [prompt | answer] of equal length, `batch` in one forward, each with a backward.

    The library's own forward, media and all, up to the last hidden states; then the head that the packed row has.
    """
    size = len(prompt.input_ids)
    ids = torch.stack([torch.cat([prompt.input_ids, torch.tensor(answer)]) for answer in answers])
    behind = prompt.positions[:, -1:] + 1 + torch.arange(ids.shape[1] - size)
    positions = torch.cat([prompt.positions, behind], dim=1)[:, None]
    media = {name: tensor for name, tensor in prompt.media.items() if name != "mm_token_type_ids"}

    def once() -> Tensor:
        model.zero_grad()
        found = []
        for rows in ids.split(batch):
            again = {name: torch.cat([tensor] * len(rows)) for name, tensor in media.items()}
            hidden = model.model(
                input_ids=rows, position_ids=positions.expand(-1, len(rows), -1), use_cache=False, **again
            ).last_hidden_state
            states = hidden[:, size - 1 : -1].flatten(0, 1)
            logps, _ = token_logps(states, rows[:, size:].flatten(), model.lm_head)
            _backward(logps)
            found.append(logps.detach())
        return torch.cat(found)

    return once


def _backward(logps: Tensor) -> None:
    """Of a sum in which a token weighs by its log-prob: the same however answers are cut into calls."""
    logps.square().sum().backward()
