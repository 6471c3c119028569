"""Attention of one packed group, forward and backward, by every implementation at hand.

Each is compared with the dense computation in float32 (a mask over the whole row). Queries (1, H, L, d), keys and
values (1, K, L, d), L = P + G·C: [prompt | answer 1 | … | answer G].
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention as sdpa

from avst.models.attention import group_attention
from avst.models.packing import Layout, segment
from scripts.gpu.clock import Clock, Fields

# a function of (query, key, value) to the attention's output (1, L, H, d)
Way = Callable[[Tensor, Tensor, Tensor], Tensor]


def ways(prompt: int, answers: int, tokens: int, device: str) -> dict[str, Callable[[], Way]]:
    """Name -> what makes the way; making one may fail (a package that is not there)."""
    layout = Layout((segment(0, prompt, [tokens] * answers),))
    part = layout.segments[0]
    gather, scatter = part.gather.to(device), part.scatter.to(device)
    layout = Layout((type(part)(0, prompt, part.lengths, gather, scatter),))
    module = SimpleNamespace(num_key_value_groups=1, is_causal=True, training=False)

    def expanded(states: Tensor) -> Tensor:
        """(G, heads, P + C, d)"""
        own = states[0][:, gather].transpose(0, 1)
        return torch.cat([states[:, :, :prompt].expand(answers, -1, -1, -1), own], dim=2)

    def joined(answer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Way:
        def way(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            parts = (states[:, :, :prompt] for states in (query, key, value))
            first = sdpa(*parts, is_causal=True, enable_gqa=True).transpose(1, 2)
            queries = query[0][:, gather].transpose(0, 1)
            out = answer(queries, expanded(key), expanded(value))
            return torch.cat([first, out.flatten(0, 1)[scatter][None]], dim=1)

        return way

    def as_it_is() -> Way:
        def way(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            module.num_key_value_groups = query.shape[1] // key.shape[1]
            scale = query.shape[-1] ** -0.5
            return group_attention(module, query, key, value, None, base="sdpa", group=layout, scaling=scale)[0]  # type: ignore[arg-type]

        return way

    def masked() -> Way:
        mask = torch.ones(tokens, prompt + tokens, dtype=torch.bool, device=device).tril(prompt)

        def answer(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            return sdpa(query, key, value, attn_mask=mask, enable_gqa=True).transpose(1, 2)

        return joined(answer)

    def flash() -> Way:
        from flash_attn import flash_attn_func

        def answer(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            return flash_attn_func(*(states.transpose(1, 2) for states in (query, key, value)), causal=True)

        return joined(answer)

    def flex() -> Way:
        from torch.nn.attention.flex_attention import create_block_mask, flex_attention

        if device != "cuda":
            raise RuntimeError("needs CUDA")

        def sees(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
            same = (q - prompt) // tokens == (k - prompt) // tokens
            return (q >= k) & ((k < prompt) | ((q >= prompt) & same))

        length = prompt + answers * tokens
        mask = create_block_mask(sees, None, None, length, length, device=device)
        compiled = torch.compile(flex_attention)
        return lambda q, k, v: compiled(q, k, v, block_mask=mask, enable_gqa=True).transpose(1, 2)

    return {
        "as it is (SDPA, causal from the end)": as_it_is,
        "SDPA with a dense mask and grouped heads": masked,
        "flash-attn": flash,
        "flex attention over the row": flex,
    }


def dense(prompt: int, answers: int, tokens: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """One mask over the whole row, in float32."""
    place = torch.arange(prompt + answers * tokens, device=query.device)
    owner = torch.where(place < prompt, -1, (place - prompt) // tokens)
    mask = (place[:, None] >= place) & ((owner == -1) | (owner[:, None] == owner))
    return sdpa(query.float(), key.float(), value.float(), attn_mask=mask, enable_gqa=True).transpose(1, 2)


def compare(
    config: Any, prompt: int, answers: int, tokens: int, device: str, dtype: torch.dtype, clock: Clock
) -> Iterator[tuple[str, Callable[[], Fields]]]:
    """(name, measurement) of each way, for one layer of `config`."""
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    size = config.hidden_size // heads
    length = prompt + answers * tokens
    generator = torch.Generator(device).manual_seed(0)

    def states(count: int) -> Tensor:
        made = torch.randn(1, count, length, size, device=device, generator=generator)
        return made.to(dtype).requires_grad_()

    query, key, value = states(heads), states(kv_heads), states(kv_heads)
    with torch.no_grad():
        wanted = dense(prompt, answers, tokens, query, key, value)
    noise = {torch.float32: 1e-4, torch.bfloat16: 3e-2}[dtype]

    def measure(make: Callable[[], Way]) -> Fields:
        way = make()
        with torch.no_grad():
            apart = float((way(query, key, value).float() - wanted).abs().max())
        if not apart <= noise:
            raise AssertionError(f"{apart:.3g} away from the dense computation")

        def once() -> None:
            query.grad = key.grad = value.grad = None
            way(query, key, value).sum().backward()

        return clock.measure(once) | {"apart": apart}

    for name, make in ways(prompt, answers, tokens, device).items():
        yield f"attention of a layer: {name}", lambda make=make: measure(make)
