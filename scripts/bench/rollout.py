"""The rollout: G answers each to several prompts.

Compared, on one model (Qwen2.5-VL's text model, hidden 256, 6 layers, float32), each in a process of its own, by turns:
    together       avst: all prompts in one loop, each prompt's states once (avst.rollout)
    repeated       the same loop over a cache that holds each prompt G times (rollout.share_prompts: false)
    one by one     avst, one prompt at a time
    generate       the library's generate(num_return_sequences=G), one prompt at a time, as TRL without vLLM computes it
Every answer is C tokens long (no token ends one), so that all do the same work. Memory is the peak beyond what the
process held before. A second table lets answers end at random lengths, with and without dropping those that ended.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from scripts.bench.arm import Arm, peak_bytes
from scripts.bench.figure import Figure

WAYS = ("together", "repeated", "one by one", "generate")
SHAPE = {"prompts": 4, "prompt_tokens": 1250, "answers": 6, "answer_tokens": 64}
# as many heads of keys as of queries, so that the cache weighs in this small model what it weighs in a large one
LONG = SHAPE | {"prompts": 2, "prompt_tokens": 4000, "kv_heads": 8}
QUICK = {"prompts": 2, "prompt_tokens": 40, "answers": 3, "answer_tokens": 4}


def arm(
    way: str,
    prompts: int,
    prompt_tokens: int,
    answers: int,
    answer_tokens: int,
    hidden: int = 256,
    layers: int = 6,
    kv_heads: int = 2,
    ending: float = 0.0,
    drop: bool = True,
) -> Callable[[], dict[str, Any]]:
    """One rollout of all prompts a call. ending: the share of the vocabulary that ends an answer, 0 for none."""
    import torch
    from transformers import GenerationConfig

    from avst.models.loading import load
    from avst.models.tiny import make_tiny
    from avst.rollout import Sampling, rollout
    from avst.rollout_options import RolloutOptions
    from avst.types import Answer, Prompt, Question, Space

    with tempfile.TemporaryDirectory() as folder:
        make_tiny("qwen2_5_vl", Path(folder), hidden=hidden, layers=layers, heads=8, kv_heads=kv_heads)
        model = load(folder)[0].eval()
    torch.manual_seed(0)
    question = Question("bench", "temporal", "-", "", 0.0, gold=Answer(), gold_text="")
    asked = []
    for i in range(prompts):
        size = prompt_tokens - i  # of unequal length, as in a run
        prompt = Prompt(question, torch.randint(300, 400, (size,)), {}, Space((1, 1), (1, 1)))
        prompt.positions = torch.arange(size).expand(3, -1)
        asked.append(prompt)
    words = model.config.get_text_config().vocab_size
    ends = list(range(0, words, round(1 / ending))) if ending else [words]  # an id that no token has
    sampling = Sampling(max_new_tokens=answer_tokens)
    options = RolloutOptions(share_prompts=way != "repeated", drop_finished=drop)
    plain = GenerationConfig(
        max_new_tokens=answer_tokens,
        min_new_tokens=answer_tokens,
        do_sample=True,
        num_return_sequences=answers,
        eos_token_id=0,
        pad_token_id=0,
    )
    before = peak_bytes()

    @torch.no_grad()
    def once() -> dict[str, Any]:
        torch.manual_seed(1)
        if way == "generate":
            for prompt in asked:
                ids = prompt.input_ids[None]
                model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=plain)
            return {"before_bytes": before, "tokens": prompts * answers * answer_tokens}
        batches = [[prompt] for prompt in asked] if way == "one by one" else [asked]
        groups = [g for batch in batches for g in rollout(model, batch, answers, sampling, ends, 0, options)]
        return {"before_bytes": before, "tokens": sum(len(ids) for g in groups for ids in g.completion_ids)}

    return once


def run(quick: bool) -> list[Figure]:
    """Tokens a second and memory, then what leaving the batch pays."""
    small = {"hidden": 64, "layers": 2} if quick else {}
    repeats = 1 if quick else 5
    figures: list[Figure] = []
    for shape in [QUICK] if quick else [SHAPE, LONG]:
        figures += _ways(shape | small, repeats)
    figures.append(_ending((QUICK if quick else SHAPE) | small | {"answer_tokens": 8 if quick else 128}, repeats))
    return figures


def _ways(shape: dict[str, int], repeats: int) -> list[Figure]:
    arms = {way: Arm("scripts.bench.rollout:arm", way=way, **shape) for way in WAYS}
    _by_turns(arms, repeats)
    rate = {way: median(one.last["tokens"] / s for s in one.seconds[1:]) for way, one in arms.items()}
    memory = {way: one.peak_bytes - one.last["before_bytes"] for way, one in arms.items()}
    how = {"shape": shape, "seconds": {way: one.seconds[1:] for way, one in arms.items()}, "peak_bytes": memory}
    label = f"{shape['prompts']} prompts of {shape['prompt_tokens']:,}"
    figures = [Figure("rollout", f"{label}: {way}", rate[way], "tokens/s", "", how) for way in WAYS]
    figures += [
        Figure("rollout", f"{label}: together / {way}", rate["together"] / rate[way], "x", ">= 1", how)
        for way in WAYS[1:]
    ]
    if "kv_heads" in shape:
        figures += [
            Figure("rollout", f"{label}: memory, together / {way}", memory["together"] / memory[way], "x", "<= 1", how)
            for way in ("repeated", "generate")
        ]
    return figures


def _ending(shape: dict[str, int], repeats: int) -> Figure:
    """Answers that end with a chance of 1/32 at each token: most are short, a few are long."""
    arms = {
        name: Arm("scripts.bench.rollout:arm", way="together", ending=1 / 32, drop=name == "leave", **shape)
        for name in ("stay", "leave")
    }
    _by_turns(arms, repeats)
    rate = {name: median(one.last["tokens"] / s for s in one.seconds[1:]) for name, one in arms.items()}
    how = {"shape": shape, "seconds": {name: one.seconds[1:] for name, one in arms.items()}, "tokens_per_second": rate}
    return Figure("rollout", "ended answers leave / stay, tokens/s", rate["leave"] / rate["stay"], "x", ">= 1", how)


def _by_turns(arms: dict[str, Arm], repeats: int) -> None:
    """The first round is the warm-up."""
    for _ in range(repeats + 1):
        for one in arms.values():
            one.run()
    for one in arms.values():
        one.close()
