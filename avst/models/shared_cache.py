"""A decoding cache in which every prompt stands once, however many answers are being written behind it.

transformers' caches hold one row an answer: the prompt's keys and values G times, copied whole at every token as they
grow. Here a layer holds the prompts' states (N, …) and the answers' own (R, …) apart. A decoding step multiplies all
queries of a prompt's answers with its keys at once, so that these are read once a step instead of G times, and joins
the two parts in one softmax. That is exact, not an approximation. (The idea: Juravsky et al., "Hydragen",
arXiv 2402.05099.)

N: prompts, R: answers of all prompts, P: the longest prompt's cached tokens, t: tokens of the answers so far, H and K:
heads of queries and of keys, d: their size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from transformers import Cache, DynamicCache
from transformers.cache_utils import CacheLayerMixin, DynamicLayer

FIRST_TOKENS = 64  # room for an answer's own states, doubled when it is full


class Members:
    """Which answers belong to which prompt.

    grid: int64 (N, M), rows of each prompt's answers, M of the prompt with the most (fewer: padded with its row 0);
    place: int64 (R,), where each row stands in the flattened grid.
    """

    def __init__(self, owners: Tensor, n_prompts: int) -> None:
        """owners: int64 (R,) on the CPU, ascending: the prompt of each row."""
        counts = torch.bincount(owners, minlength=n_prompts)
        widest = int(counts.max())
        offsets = torch.arange(widest).expand(n_prompts, widest)
        first = counts.cumsum(0) - counts
        inside = offsets < counts[:, None]
        self.owners = owners
        self.even = bool((counts == widest).all())
        self.grid = torch.where(inside, first[:, None] + offsets, torch.zeros_like(offsets))
        self.place = inside.flatten().nonzero().squeeze(1)

    def to(self, device: torch.device) -> Members:
        self.grid, self.place = self.grid.to(device), self.place.to(device)
        return self

    def gather(self, rows: Tensor) -> Tensor:
        """(R, …) -> (N, M, …)."""
        if self.even:
            return rows.unflatten(0, self.grid.shape)
        return rows[self.grid]

    def scatter(self, grid: Tensor) -> Tensor:
        """(N, M, …) -> (R, …)."""
        flat = grid.flatten(0, 1)
        return flat if self.even else flat[self.place]


class SharedLayer(CacheLayerMixin):
    """One layer. prompt_keys, prompt_values: (N, K, P, d), padded on the left;  members: of the whole cache."""

    is_sliding = False

    def __init__(self, prompt_keys: Tensor, prompt_values: Tensor) -> None:
        super().__init__()
        self.prompt_keys, self.prompt_values = prompt_keys, prompt_values
        self.tokens = 0
        self.is_initialized = True

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Room for the answers' own states, as many rows as there are."""
        rows, heads, _, size = key_states.shape
        self.keys = key_states.new_empty(rows, heads, FIRST_TOKENS, size)
        self.values = torch.empty_like(self.keys)

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append one token's states (R, K, 1, d); returns the answers' own so far, (R, K, t, d) each."""
        if self.keys is None:
            self.lazy_initialization(key_states, value_states)
        assert self.keys is not None
        assert self.values is not None
        end = self.tokens + key_states.shape[-2]
        if end > self.keys.shape[-2]:
            more = max(end, 2 * self.keys.shape[-2]) - self.keys.shape[-2]
            self.keys = torch.nn.functional.pad(self.keys, (0, 0, 0, more))
            self.values = torch.nn.functional.pad(self.values, (0, 0, 0, more))
        self.keys[:, :, self.tokens : end] = key_states
        self.values[:, :, self.tokens : end] = value_states
        self.tokens = end
        return self.own()

    def own(self) -> tuple[Tensor, Tensor]:
        """The answers' own states, (R, K, t, d) each."""
        assert self.keys is not None
        assert self.values is not None
        return self.keys[:, :, : self.tokens], self.values[:, :, : self.tokens]

    def keep(self, rows: Tensor, prompts: Tensor | None) -> None:
        """Forget all other answers, and the prompts that have none left. Indices, ascending; None keeps all prompts."""
        if self.keys is not None:
            assert self.values is not None
            self.keys, self.values = self.keys[rows], self.values[rows]
        if prompts is not None:
            self.prompt_keys, self.prompt_values = self.prompt_keys[prompts], self.prompt_values[prompts]

    def get_seq_length(self) -> int:
        return self.prompt_keys.shape[-2] + self.tokens

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.get_seq_length() + query_length, 0

    def get_max_length(self) -> int:
        return -1  # none


class SharedCache(Cache):
    """What `generate` takes as `past_key_values`, and group attention as `group`."""

    def __init__(self, layers: list[SharedLayer], sizes: Sequence[int], answers: int) -> None:
        """sizes: cached tokens of each prompt;  answers: of each prompt, to begin with."""
        super().__init__(layers=cast(Any, layers))
        self.shared = layers
        keys = layers[0].prompt_keys
        self.members = Members(torch.arange(len(sizes)).repeat_interleave(answers), len(sizes)).to(keys.device)
        longest = max(sizes)
        self.hidden: Tensor | None = None  # (N, 1, 1, P), True where a shorter prompt is padded
        if min(sizes) < longest:
            padding = torch.tensor([longest - size for size in sizes], device=keys.device)
            self.hidden = (torch.arange(longest, device=keys.device) < padding[:, None])[:, None, None]

    @classmethod
    def of(cls, caches: list[DynamicCache], sizes: Sequence[int], answers: int) -> SharedCache:
        """From one cache a prompt, each of one row. The caches are emptied, layer by layer."""
        return cls([SharedLayer(keys, values) for keys, values in _stacked(caches, sizes)], sizes, answers)

    def keep(self, rows: Tensor) -> None:
        """Go on with these answers alone. rows: int64 on the CPU, ascending."""
        device = self.members.grid.device
        prompts, owners = self.members.owners[rows].unique(return_inverse=True)
        some = prompts.to(device) if len(prompts) < len(self.members.grid) else None
        self.members = Members(owners, len(prompts)).to(device)
        if some is not None and self.hidden is not None:
            self.hidden = self.hidden[some]
        for layer in self.shared:
            layer.keep(rows.to(device), some)

    def attend(self, layer_idx: int, query: Tensor, scaling: float) -> Tensor:
        """Attention of one new token an answer. query: (R, H, 1, d); returns (R, 1, H, d)."""
        layer = self.shared[layer_idx]
        own_keys, own_values = layer.own()
        rows, heads, length, size = query.shape
        if length != 1:
            raise ValueError(f"a shared cache decodes one token at a time, got {length}")
        kv_heads = layer.prompt_keys.shape[1]
        query = query.reshape(rows, kv_heads, heads // kv_heads, size)
        # (N, K, M·H/K, d): all queries of a prompt's answers, by the head of keys that they share
        grid = self.members.gather(query).transpose(1, 2)
        shape = grid.shape
        wide = torch.promote_types(query.dtype, torch.float32)  # of the softmax; float64 stays what it is
        prompt = (grid.flatten(2, 3) @ layer.prompt_keys.transpose(-1, -2)).to(wide).mul_(scaling)
        if self.hidden is not None:
            prompt.masked_fill_(self.hidden, float("-inf"))
        own = (query @ own_keys.transpose(-1, -2)).to(wide).mul_(scaling)
        own_grid = self.members.gather(own).transpose(1, 2).flatten(2, 3)
        top = torch.maximum(prompt.amax(-1, keepdim=True), own_grid.amax(-1, keepdim=True))

        def rowwise(values: Tensor) -> Tensor:
            """(N, K, M·H/K, x) -> (R, K, H/K, x)"""
            return self.members.scatter(values.unflatten(2, shape[2:4]).transpose(1, 2))

        prompt = prompt.sub_(top).exp_()
        own = own.sub_(rowwise(top)).exp_()
        total = rowwise(prompt.sum(-1, keepdim=True)) + own.sum(-1, keepdim=True)
        out = rowwise(prompt.to(query.dtype) @ layer.prompt_values).to(wide)
        out += (own.to(query.dtype) @ own_values).to(wide)
        return (out / total).to(query.dtype).reshape(rows, 1, heads, size)


class RepeatedCache(DynamicCache):
    """The plain way: the library's own cache, with each prompt's states once for every answer."""

    @classmethod
    def of(cls, caches: list[DynamicCache], sizes: Sequence[int], answers: int) -> RepeatedCache:
        """From one cache a prompt, each of one row. The caches are emptied, layer by layer."""
        repeated = cls()
        for index, (keys, values) in enumerate(_stacked(caches, sizes)):
            repeated.update(keys.repeat_interleave(answers, 0), values.repeat_interleave(answers, 0), index)
        return repeated

    def keep(self, rows: Tensor) -> None:
        """Go on with these answers alone. rows: int64 on the CPU, ascending."""
        for layer in cast(list[DynamicLayer], self.layers):
            assert layer.keys is not None
            layer.batch_select_indices(rows.to(layer.keys.device))


def _stacked(caches: list[DynamicCache], sizes: Sequence[int]) -> Iterator[tuple[Tensor, Tensor]]:
    """Layer by layer: keys and values (N, K, P, d) of all prompts, padded on the left with zeros."""
    longest = max(sizes)

    def rows(states: list[Tensor]) -> Tensor:
        if len(states) == 1:
            return states[0]
        missing = [longest - size for size in sizes]
        return torch.cat([torch.nn.functional.pad(s, (0, 0, m, 0)) for s, m in zip(states, missing, strict=True)])

    layers: Any = zip(*(cache.layers for cache in caches), strict=True)
    for parts in layers:
        yield rows([part.keys for part in parts]), rows([part.values for part in parts])
        for part in parts:
            part.keys = part.values = None
