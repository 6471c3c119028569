"""A small byte-level BPE tokenizer trained in code on the task's own texts: about a thousand tokens, one per digit.

It is a `Qwen2Tokenizer` as any checkpoint of the family has: the same pre-tokenizer (single digits), the same special tokens.
The answer tags are ordinary added tokens: one id each, and `decode(skip_special_tokens=True)` keeps them.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator

from tokenizers import pre_tokenizers, trainers
from transformers import Qwen2Tokenizer

from avst.models.tiny_kinds import Kind

ANSWER_TAGS = ("<answer>", "</answer>", "<object>", "</object>", "<when>", "</when>", "<where>", "</where>")

BOX2 = """You are an expert in audio-visual video grounding. For each question, output within <answer></answer>:
- <object>: grounded object(s), e.g. 'man', 'dog', separated by commas
- <when>: [start, end] in seconds, 1 decimal
- <where> for each object by each second within the object appearing duration: timestamp: [x1, y1, x2, y2]
Only include tags <object>, <when> and <where>. No extra text. Example: dog cat
You are a helpful assistant. Question:"""

QUESTIONS = (
    "When is the moment {a} makes sound and is visible?",
    'When is the moment {a} makes sound and is visible, and where is the "{a}"?',
    "What silent object(s) can be seen between {s} and {e}, and where is/are they?",
    "What sounding object(s) can be seen between {s} and {e}, and where is/are they?",
    "When does {a} make sound but is not visible, and when is it visible but silent?",
    'During {s} to {e} seconds, where is the "{a}" that makes the sound?',
)

NAMES = """man woman boy girl child baby person people crowd dog cat bird horse cow sheep duck car bus truck train motorcycle
bicycle boat ship helicopter airplane guitar piano drum drums violin flute trumpet saxophone accordion bell phone clock door
engine machine tool saw hammer ball water fire rain wind bowl pan knife table chair box star ring square circle triangle cross
diamond disc bar red green blue yellow orange purple white black grey brown pink cyan magenta small large big left right top
bottom young old two three several driver singer player speaker passengers audience track stage cruise race""".split()


def corpus(seed: int = 0, size: int = 600) -> Iterator[str]:
    """Deterministic texts of the task: Box 2, questions, names, answers in the R-AVST grammar."""
    rng = random.Random(seed)
    yield from [BOX2] * 20
    yield from ("system", "user", "assistant") * 50  # the chat's roles, a token each (Omni's config names the user's)
    for _ in range(size):
        start = rng.randrange(0, 300) / 10
        end = start + rng.randrange(1, 200) / 10
        a = f"{rng.choice(('A ', 'a ', 'The ', ''))}{rng.choice(NAMES)} {rng.choice(NAMES)}"
        yield rng.choice(QUESTIONS).format(a=a, s=start, e=round(end, 5))
        yield f"[{start:.1f}, {end:.1f}]"
        yield f"\n{start:.1f}: [{rng.randrange(640)}, {rng.randrange(360)}, {rng.randrange(640)}, {rng.randrange(360)}]\n"
    for name in NAMES:
        yield from (name, f" {name}", name.capitalize()) * 4


def train_tokenizer(kind: Kind, vocab_size: int = 1000) -> Qwen2Tokenizer:
    """Train on `corpus()`; byte-level, so any text whatever survives encode and decode (after NFC normalisation).

    vocab_size: tokens before the special ones and the tags. Same input, same vocabulary.
    """
    blank = Qwen2Tokenizer()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    backend = blank.backend_tokenizer
    backend.train_from_iterator(corpus(), trainer)
    trained = _vocab_and_merges(backend.to_str())
    tokenizer = Qwen2Tokenizer(
        vocab=trained[0],
        merges=trained[1],
        unk_token=None,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=dict(kind.tokenizer_attributes),
        model_max_length=32768,
        padding_side="left",
    )
    tokenizer.add_special_tokens({"additional_special_tokens": list(kind.special_tokens)})
    tokenizer.add_tokens(list(ANSWER_TAGS))
    return tokenizer


def _vocab_and_merges(serialised: str) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """The vocabulary and merges of a trained `tokenizers` object, as its JSON gives them."""
    model = json.loads(serialised)["model"]
    return model["vocab"], [tuple(m) for m in model["merges"]]
