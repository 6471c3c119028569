"""A small byte-level BPE tokenizer trained in code on the task's own texts: about a thousand tokens, one per digit.

It is a `Qwen2Tokenizer` as real checkpoints have it: the same pre-tokenizer (every digit by itself), the same special
tokens. The answer tags are ordinary added tokens: one id each, and kept by `decode(skip_special_tokens=True)`.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

from tokenizers import pre_tokenizers, trainers
from transformers import Qwen2Tokenizer

from avst.models.tiny_kinds import Kind
from avst.scenes.world import EVERYDAY_NAMES
from avst.tasks.r_avst import SYSTEM_PROMPT

ANSWER_TAGS = ("<answer>", "</answer>", "<object>", "</object>", "<when>", "</when>", "<where>", "</where>")

# The real questions' wordings.
_QUESTIONS = (
    "When is the moment {name} makes sound and is visible?",
    'When is the moment {name} makes sound and is visible, and where is the "{name}"?',
    "What silent object(s) can be seen between {start} and {end}, and where is/are they?",
    "What visible object(s) make sound between {start} and {end}, and where is/are they?",
)
_THINGS = (
    "man woman boy girl child person people crowd men women group band choir audience spectators passengers conductor",
    "driver singer player horse duck bus truck motorcycle bicycle boat ship helicopter airplane engine piano violin",
    "trumpet saxophone accordion tabla phone door machine saw hammer ball water stage track microphone chair table",
)
_BEFORE = (
    "A young",
    "A large",
    "A black and white",
    "A group of",
    "Two",
    "Three",
    "Several",
    "A",
    "The",
    "the",
    "a",
    "red",
)


def corpus(seed: int = 0, size: int = 600) -> Iterator[str]:
    """The task's texts, the same for the same arguments: prompt, questions, names, answers in the R-AVST grammar."""
    rng = random.Random(seed)
    yield from [SYSTEM_PROMPT, "You are a helpful assistant."] * 20
    yield from ("system", "user", "assistant") * 50  # the chat's roles, a token each (Omni's config names the user's)
    things = " ".join(_THINGS).split()
    for _ in range(size):
        start = rng.randrange(0, 300) / 10
        end = round(start + rng.randrange(1, 200) / 10, 1)
        name = f"{rng.choice(_BEFORE)} {rng.choice(things)}"
        yield rng.choice(_QUESTIONS).format(name=name, start=start, end=end)
        box = ", ".join(str(rng.randrange(640)) for _ in range(4))
        yield f"[{start:.1f}, {end:.1f}]\n{start:.1f}: [{box}]\n{end:.1f}: [{box}]\n"
    for name in EVERYDAY_NAMES:
        yield from (name, f" {name}", name.capitalize(), f" {name}s") * 20


def train_tokenizer(kind: Kind, vocab_size: int = 1000, numbers: int = 0) -> Qwen2Tokenizer:
    """Train on `corpus()`. Byte-level, so any text comes back from encode and decode as it was (NFC-normalised).

    vocab_size: at most so many tokens before the special ones and the tags. Same code, same vocabulary.
    numbers: whole numbers below it are one token each: a coordinate is then one choice instead of three in a row.
    """
    backend = Qwen2Tokenizer().backend_tokenizer
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator(corpus(), trainer)
    model: dict[str, Any] = json.loads(backend.to_str())["model"]
    pairs: list[Any] = [tuple(merge) for merge in model["merges"]]  # as the backend takes them, whatever the hint says
    tokenizer = Qwen2Tokenizer(
        vocab=model["vocab"],
        merges=pairs,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=dict(kind.tokenizer_attributes),
        model_max_length=32768,
        padding_side="left",
    )
    tokenizer.add_special_tokens({"additional_special_tokens": list(kind.special_tokens)})
    tokenizer.add_tokens([*ANSWER_TAGS, *(str(n) for n in range(10, numbers))])
    return tokenizer
