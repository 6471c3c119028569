"""Tokens a second of decoding against the memory bound: a step must read every weight and every cached state once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedModel

from avst.models.features import embed
from avst.rollout import Sampling, rollout
from avst.rollout_options import RolloutOptions
from avst.types import Prompt
from scripts.gpu.clock import Clock, Fields

DRAW: dict[str, Any] = {"do_sample": True, "top_k": 0, "use_cache": True, "pad_token_id": 0, "eos_token_id": None}


def decoding(
    model: PreTrainedModel, prompt: Prompt, answers: int, tokens: int, clock: Clock, bandwidth: float
) -> Iterator[tuple[str, Callable[[], Fields]]]:
    """(name, measurement) of each way; a measurement may fail on its own (memory, a missing kernel)."""
    words = model.config.get_text_config().vocab_size
    sampling = Sampling(max_new_tokens=tokens)

    def avst(share: bool) -> Callable[[int], object]:
        options = RolloutOptions(share_prompts=share)
        return lambda n: rollout(model, [prompt], answers, replace(sampling, max_new_tokens=n), [words], 0, options)

    def library(**more: Any) -> Callable[[int], object]:
        embeds = embed(model, prompt.input_ids[None].to(model.device), [(0, prompt)]).detach()

        def run(n: int) -> object:
            config = GenerationConfig(max_new_tokens=n, min_new_tokens=n, num_return_sequences=answers, **DRAW, **more)
            return model.generate(inputs_embeds=embeds, generation_config=config)

        return run

    bound = bound_seconds(model, len(prompt.input_ids), answers, tokens, bandwidth)
    ways: dict[str, Callable[[], Callable[[int], object]]] = {
        "avst, prompts shared": lambda: avst(True),
        "avst, prompts repeated": lambda: avst(False),
        "generate, dynamic cache": library,
        "generate, static cache, compiled": lambda: library(cache_implementation="static"),
    }
    for name, make in ways.items():
        yield f"decode: {name}", lambda make=make: _rate(make(), answers, tokens, clock, bound)
    yield "decode: one step in a CUDA graph", lambda: _graph(model, prompt, answers, clock, bound, tokens)


def bound_seconds(model: PreTrainedModel, prompt: int, answers: int, tokens: int, bandwidth: float) -> float:
    """Seconds a step at least takes: bytes of the weights of language model and head, of the prompt's states once and
    of half of the answers' own (they grow from nothing), over the bandwidth."""
    parts = [model.model.language_model.layers, model.lm_head]
    weights = sum(p.numel() * p.element_size() for part in parts for p in part.parameters())
    config = model.config.get_text_config()
    head = config.hidden_size // config.num_attention_heads
    state = 2 * config.num_hidden_layers * config.num_key_value_heads * head * model.dtype.itemsize
    return (weights + state * (prompt + answers * tokens / 2)) / bandwidth


def _rate(run: Callable[[int], object], answers: int, tokens: int, clock: Clock, bound: float) -> Fields:
    """Seconds a step from the difference of a long and a short run, so that the prefill is in neither."""
    with torch.no_grad():
        short = clock.measure(lambda: run(2))
        long = clock.measure(lambda: run(tokens))
    step = (long["seconds"] - short["seconds"]) / (tokens - 2)
    if step <= 0:
        raise RuntimeError("too few tokens to tell a step's time from the prefill's")
    return {
        "tokens_per_second": answers / step,
        "of_memory_bound": bound / step,
        "prefill_seconds": short["seconds"],
        "peak_gb": long["peak_gb"],
        "all_seconds": long["all_seconds"],
    }


def _graph(model: PreTrainedModel, prompt: Prompt, answers: int, clock: Clock, bound: float, tokens: int) -> Fields:
    """One decoding step over a static cache, captured and replayed: no time goes into starting kernels. The cache's
    content is nobody's answer; the work is that of a step."""
    if not clock.cuda:
        raise RuntimeError("needs CUDA")
    from transformers import StaticCache

    text = model.model.language_model
    size = len(prompt.input_ids)
    cache = StaticCache(config=model.config.get_text_config(), max_cache_len=size + tokens)
    embeds = torch.randn(answers, 1, model.config.get_text_config().hidden_size, device=model.device, dtype=model.dtype)
    places = torch.full((3, answers, 1), size, device=model.device)
    mask = {"full_attention": None, "sliding_attention": None}

    @torch.no_grad()
    def step() -> Any:
        hidden = text(inputs_embeds=embeds, position_ids=places, attention_mask=mask, past_key_values=cache)
        return model.lm_head(hidden.last_hidden_state)

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    measured = clock.measure(graph.replay)
    return measured | {
        "tokens_per_second": answers / measured["seconds"],
        "of_memory_bound": bound / measured["seconds"],
    }
