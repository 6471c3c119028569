"""Group attention: answers attend to their prompt and to themselves, never to their siblings.

transformers lets a program register an attention function and a mask function by name, and hands extra keywords of the
model's forward down to it. So no model file is patched: the text model's config names `group_<base>`, and the function
below falls through to the base implementation whenever no `group` layout comes along (rollout, evaluation, plain use).

It is set on the *text* config alone. Set on the composite config it would cascade into the vision and audio towers,
which would then silently lose their window masks.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, PreTrainedModel

from avst.models.packing import Layout, Segment
from avst.models.shared_cache import SharedCache

PREFIX = "group_"
# flash_attention_2 serves the rollout and the prompts; the answers' bottom-right causal mask is what it does by itself.
BASES = ("sdpa", "eager", "flash_attention_2")


def install(text_model: PreTrainedModel, base: str) -> None:
    """Let `text_model` (the language model inside a Video-LLM) understand the `group` keyword; `base` does the rest."""
    if base not in BASES:
        raise ValueError(f"no group attention over {base!r}; one of {', '.join(BASES)}")
    name = PREFIX + base
    AttentionInterface.register(name, partial(group_attention, base=base))
    AttentionMaskInterface.register(name, ALL_MASK_ATTENTION_FUNCTIONS[base])
    # the internal name, since the public setter would walk into sub-models
    text_model.config._attn_implementation_internal = name


def group_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    base: str,
    group: Layout | SharedCache | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """The registered function. query (1, heads, L, d), key and value (1, kv_heads, L, d); returns (1, L, heads, d).

    group: the layout of a packed row, or the cache of a rollout whose answers share their prompts' states.
    """
    if isinstance(group, SharedCache):
        return group.attend(cast(int, module.layer_idx), query, kwargs["scaling"]), None
    plain: Callable[..., tuple[Tensor, Tensor | None]] = _base_attention(module, base)
    if group is None:
        return plain(module, query, key, value, attention_mask, **kwargs)
    kwargs.pop("position_ids", None)  # flash-attention would read them as a sign of packing
    parts: list[Tensor] = []
    for part in group.segments:
        prompt = slice(part.start, part.answers_start)
        out, _ = plain(module, query[:, :, prompt], key[:, :, prompt], value[:, :, prompt], None, **kwargs)
        parts += [out, _answers(module, query, key, value, part, plain if base.startswith("flash") else None, kwargs)]
    return torch.cat(parts, dim=1), None


def _answers(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    part: Segment,
    flash: Callable[..., tuple[Tensor, Tensor | None]] | None,
    kwargs: dict[str, Any],
) -> Tensor:
    """Attention of one group's answers, (1, ΣC, heads, d): queries (G, heads, C_max, d) over [prompt | own] keys."""
    answers = len(part.lengths)
    queries = query[0][:, part.gather].transpose(0, 1)  # (heads, G, C, d) -> (G, heads, C, d)
    keys, values = (
        torch.cat(
            [
                states[:, :, part.start : part.answers_start].expand(answers, -1, -1, -1),
                states[0][:, part.gather].transpose(0, 1),
            ],
            dim=2,
        )
        for states in (key, value)
    )
    if flash is not None:
        out, _ = flash(module, queries, keys, values, None, **kwargs)
    else:
        out = _causal_from_the_end(queries, keys, values, kwargs).transpose(1, 2)
    return out.flatten(0, 1)[part.scatter][None]


def _causal_from_the_end(queries: Tensor, keys: Tensor, values: Tensor, kwargs: dict[str, Any]) -> Tensor:
    """SDPA in which the last query sees all keys, the one before all but the last, and so on; (G, heads, C, d).

    torch's bias object, not a mask of our own: on CUDA, SDPA answers a mask together with enable_gqa by its plain
    kernel, which writes all scores out (6 answers of 1,024 tokens to 3,800: gigabytes a layer). With the bias it takes
    flash attention, in half precision with the few heads of keys as they are; in float32 the memory-efficient kernel
    needs a head of keys for each of the queries'.
    """
    if torch.is_autocast_enabled(queries.device.type):  # the bias object looks at the dtypes before autocast casts them
        dtype = torch.get_autocast_dtype(queries.device.type)
        queries, keys, values = (states.to(dtype) for states in (queries, keys, values))
    grouped = queries.shape[1] != keys.shape[1]
    if grouped and queries.is_cuda and queries.dtype == torch.float32:
        each = queries.shape[1] // keys.shape[1]
        keys, values = (states.repeat_interleave(each, dim=1) for states in (keys, values))
        grouped = False
    return scaled_dot_product_attention(
        queries,
        keys,
        values,
        attn_mask=causal_lower_right(queries.shape[2], keys.shape[2]),
        dropout_p=kwargs.get("dropout", 0.0),
        scale=kwargs.get("scaling"),
        enable_gqa=grouped,
    )


def _base_attention(module: nn.Module, base: str) -> Callable[..., tuple[Tensor, Tensor | None]]:
    if base == "eager":  # every modelling file has an eager function of its own; sdpa computes the same sums
        base = "sdpa"
    return ALL_ATTENTION_FUNCTIONS[base]
