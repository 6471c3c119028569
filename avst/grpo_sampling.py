"""Correction for a sampler that is not quite the policy: vLLM's kernels, precision and rounding are its own.

Answers are drawn under the sampler's probabilities and learnt from under the trainer's. The importance ratio between
the two weighs each token's loss; truncated (TIS) or masked (MIS) it stays bounded. Source: Yao et al., "Your Efficient
RL Framework Secretly Brings You Off-Policy RL Training", 2025; TRL 1.16's `vllm_importance_sampling_*`, equal to it
number for number (tests/test_grpo_sampling.py). Letters as in `avst.grpo`: M completions, L tokens laid end to end.
"""

from __future__ import annotations

import torch
from torch import Tensor

SAMPLING_MODES = ("token_truncate", "token_mask", "sequence_truncate", "sequence_mask")


def sampling_ratio(
    old_logps_L: Tensor,
    sampled_logps_L: Tensor,
    index_L: Tensor,
    n_completions: int,
    mode: str,
    least: float | None,
    most: float | None,
) -> tuple[Tensor, Tensor]:
    """(what each token's loss is weighted by (L,), the ratios themselves for the log: (L,), or (M,) by sequence).

    old_logps: the trainer's before the first update;  sampled_logps: the sampler's, of the same tokens, NaN where it
    knows none (its ratio is 1);  least, most: vllm_importance_sampling_clip_min and _max, None for no bound.
    mode: `token_*` a ratio a token, `sequence_*` the product over a completion for all its tokens; `*_truncate` moves a
    ratio to the bound that it crosses, `*_mask` makes it 0.
    """
    difference_L = (old_logps_L - sampled_logps_L).nan_to_num(nan=0.0)
    by_sequence = mode.startswith("sequence")
    if by_sequence:
        difference_M = difference_L.new_zeros(n_completions).index_add(0, index_L, difference_L)
    ratio = (difference_M if by_sequence else difference_L).exp()
    if mode.endswith("truncate"):
        ratio = ratio.clamp(least, most) if (least, most) != (None, None) else ratio
    else:
        outside = torch.zeros_like(ratio, dtype=torch.bool)
        if least is not None:
            outside |= ratio < least
        if most is not None:
            outside |= ratio > most
        ratio = ratio.masked_fill(outside, 0.0)
    return (ratio[index_L] if by_sequence else ratio), ratio
