"""GRPO's mathematics: functions of tensors alone, equal to TRL 1.16's `GRPOTrainer` number for number.

Nothing is padded here. Letters on names, beside those of `avst.types`:

    Q  questions (groups) of a step       G  completions a group       K  reward functions
    M  completions of a micro-batch       L  tokens of those M completions laid end to end

`index_L` (int64) says which of the M completions a token belongs to; a completion may have no token at all.

**What adds up.** An optimizer step sees several micro-batches on several processes; their losses are summed over the
micro-batches and averaged over the processes (DDP, ZeRO and FSDP do that). `policy_loss` returns a loss that is already
scaled for this, so a Trainer must set `loss_is_scaled_for_ga = True`, as TRL's does, and must not divide once more.

    dapo, cispo, vespo      Σ tokens / tokens of the whole step       the same however the step is cut
    grpo, sapo, luspo       mean over M, then / accumulation steps    the same while every micro-batch has the same M
    dr_grpo                 Σ tokens / (M · max_completion_length),   the same while every micro-batch has the same M
                            then / accumulation steps
    bnpo                    Σ tokens / tokens of the micro-batch,     depends on the cut, in TRL as well (its name says
                            then / accumulation steps                 batch-normalised: the local batch)

The mask of `top_entropy_quantile` also depends on the cut (TRL takes the quantile over one micro-batch of all
processes). Where generation spans several optimizer steps, TRL gives each the generation's *mean* number of tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from avst.errors import AvstError
from avst.grpo_losses import (
    IMPORTANCE_LEVELS,
    LOSS_TYPES,
    LossConfig,
    Normaliser,
    Tokens,
    mean_by_completion,
    step_tokens,
)
from avst.grpo_sampling import sampling_ratio

__all__ = [
    "LossConfig",
    "LossOutput",
    "Mean",
    "Normaliser",
    "advantages",
    "decoupled_advantages",
    "high_entropy_mask",
    "no_spread",
    "policy_loss",
    "step_tokens",
    "token_kl",
]

STD_FLOOR = 1e-4  # TRL's: keeps the scaled advantage finite where all rewards are nearly equal

# ---- advantages ------------------------------------------------------------------------------------------------------


def _nanstd(values: Tensor, dim: int | None, keepdim: bool) -> Tensor:
    """Standard deviation with Bessel's correction over what is not NaN; NaN where fewer than two values are left."""
    deviation = values - values.nanmean(dim, keepdim=True)
    count = (~values.isnan()).sum(dim, keepdim=keepdim)
    return ((deviation**2).nansum(dim, keepdim=keepdim) / (count - 1).where(count > 1, torch.nan)).sqrt()


def no_spread(rewards_QG: Tensor, dim: int = 1) -> Tensor:
    """True where a group's rewards are all the same, NaN left out: such a group teaches nothing. Shape (Q,)."""
    low = rewards_QG.where(~rewards_QG.isnan(), torch.inf).amin(dim)
    high = rewards_QG.where(~rewards_QG.isnan(), -torch.inf).amax(dim)
    return low >= high


def _centred(rewards_QG: Tensor) -> Tensor:
    """Rewards minus their group's mean (over dim 1), exactly zero in a group without spread.

    The mean of six times 0.7 is not 0.7 in floating point, and division by 1e-4 would make that a gradient.
    """
    centred = rewards_QG - rewards_QG.nanmean(1, keepdim=True)
    return centred.masked_fill(no_spread(rewards_QG).unsqueeze(1) & ~rewards_QG.isnan(), 0.0)


def _group_scale(totals_QG: Tensor) -> Tensor:
    return _nanstd(totals_QG, 1, keepdim=True) + STD_FLOOR


def _batch_scale(totals_QG: Tensor) -> Tensor:
    return _nanstd(totals_QG, None, keepdim=False) + STD_FLOOR


def _no_scale(totals_QG: Tensor) -> Tensor:
    return totals_QG.new_ones(())


REWARD_SCALES: dict[str, Callable[[Tensor], Tensor]] = {"group": _group_scale, "batch": _batch_scale, "none": _no_scale}


def advantages(totals_QG: Tensor, scale: str = "group") -> Tensor:
    """(total - mean of its group) / (std + 1e-4), std of the group, of the whole batch, or left out; shape (Q, G).

    A NaN total (no reward applied to this completion) is left out of mean and std and gets advantage 0. Where scale is
    "batch", give the totals of all processes. Give float64: rewards are few and their differences can be small.
    Source: TRL `_generate_and_score_completions`, multi_objective_aggregation="sum_then_normalize".
    """
    if scale not in REWARD_SCALES:
        raise AvstError(f"scale_rewards: {scale!r} is none of {', '.join(REWARD_SCALES)}")
    return (_centred(totals_QG) / REWARD_SCALES[scale](totals_QG)).nan_to_num(nan=0.0)


def decoupled_advantages(rewards_QGK: Tensor, weights: Tensor) -> Tensor:
    """Each reward normalised in its group, then the weighted sum, then normalised over the batch; shape (Q, G).

    rewards: NaN where a reward abstained; weights: (K,), or (Q, 1, K) where they differ by question.
    Source: GDPO, arXiv 2601.05242; TRL's multi_objective_aggregation="normalize_then_sum".
    """
    parts_QGK = _centred(rewards_QGK) / (_nanstd(rewards_QGK, 1, keepdim=True) + STD_FLOOR)
    totals_QG = (parts_QGK * weights).nansum(-1).masked_fill(rewards_QGK.isnan().all(-1), torch.nan)
    scaled = (totals_QG - totals_QG.nanmean()) / (_nanstd(totals_QG, None, keepdim=False) + STD_FLOOR)
    return scaled.nan_to_num(nan=0.0)


# ---- per token -------------------------------------------------------------------------------------------------------


def token_kl(logps_L: Tensor, ref_logps_L: Tensor) -> Tensor:
    """The k3 estimate of KL(policy ‖ reference), never negative: exp(d) - d - 1 with d = ref - policy; shape (L,)."""
    difference = ref_logps_L - logps_L
    return difference.expm1() - difference


def high_entropy_mask(entropies_L: Tensor, share: float, pool: Tensor | None = None) -> Tensor:
    """True for the `share` of tokens with the highest entropy (TRL's top_entropy_quantile); bool (L,).

    pool: the entropies among which the threshold is taken: those of this micro-batch on *all* processes in a
    distributed run, else `entropies_L` themselves. Source: "Beyond the 80/20 rule", arXiv 2506.01939.
    """
    pool = (entropies_L if pool is None else pool).detach().float()
    if pool.numel() == 0:
        return torch.zeros_like(entropies_L, dtype=torch.bool)
    return entropies_L.detach() >= torch.quantile(pool, 1 - share)


# ---- the loss --------------------------------------------------------------------------------------------------------


class Mean(NamedTuple):
    """A mean that is still to be put together: over micro-batches and processes, Σ total / max(Σ n, 1)."""

    total: Tensor
    n: Tensor

    @property
    def value(self) -> float:
        return (self.total / self.n.clamp(min=1)).item()


@dataclass(slots=True)
class LossOutput:
    """loss: scalar with gradient, scaled for accumulation. means and extremes: detached, under TRL's names for logs.

    The same keys on every process, whatever its data. An extreme is combined by minimum or maximum, as its name ends
    (`_min`, `_max`), and is NaN where the micro-batch has no token.
    """

    loss: Tensor
    means: dict[str, Mean]
    extremes: dict[str, Tensor]


def policy_loss(
    logps_L: Tensor,
    old_logps_L: Tensor | None,
    ref_logps_L: Tensor | None,
    advantages_M: Tensor,
    index_L: Tensor,
    config: LossConfig,
    normaliser: Normaliser,
    *,
    token_mask_L: Tensor | None = None,
    policy_mask_L: Tensor | None = None,
    sampled_logps_L: Tensor | None = None,
) -> LossOutput:
    """The loss of one micro-batch, scaled so that the losses of a step's micro-batches add up (see the module).

    logps: log-probs under the policy, with gradient, at the sampling temperature; old_logps: under the policy that
    sampled, None when that is the policy as it stands (its ratio is 1, its gradient is not); ref_logps: needed where
    beta is not 0. advantages: one a completion, so M is its length, completions without tokens included.
    token_mask: False for tokens that count nowhere (those of truncated completions, mask_truncated_completions);
    policy_mask: False for tokens that only keep their KL term (`high_entropy_mask` of the tokens that count).
    sampled_logps: log-probs under the sampler where that is another program (vLLM): the policy's term is then weighted
    by the ratio of `old_logps` to them (avst.grpo_sampling), the KL term is not.
    """
    if token_mask_L is not None:
        keep = token_mask_L.bool()
        logps_L, index_L = logps_L[keep], index_L[keep]
        old_logps_L, ref_logps_L, policy_mask_L, sampled_logps_L = (
            None if values is None else values[keep]
            for values in (old_logps_L, ref_logps_L, policy_mask_L, sampled_logps_L)
        )
    old_logps_L = logps_L.detach() if old_logps_L is None else old_logps_L
    log_ratio_L = logps_L - old_logps_L
    level = IMPORTANCE_LEVELS[config.importance_sampling_level]
    tokens = Tokens(
        logps=logps_L,
        log_ratio=log_ratio_L,
        ratio=level(log_ratio_L, index_L, len(advantages_M)).exp(),
        advantages=advantages_M.to(logps_L)[index_L],
        index=index_L,
        n_completions=len(advantages_M),
    )
    means: dict[str, Mean] = {}
    extremes: dict[str, Tensor] = {}
    if sampled_logps_L is not None:
        tokens, means, extremes = _corrected(tokens, old_logps_L, sampled_logps_L, config)
    token_loss_L = _policy_term(tokens, config, policy_mask_L, sampled_logps_L)
    if config.beta != 0.0:
        if ref_logps_L is None:
            raise ValueError("beta is not 0, so the loss needs the reference's log-probs")
        kl_L = token_kl(logps_L, ref_logps_L)
        if config.use_bias_correction_kl:
            kl_L = kl_L * tokens.ratio
        token_loss_L = token_loss_L + config.beta * kl_L
        means["kl"] = _mean(kl_L.detach())
    loss = LOSS_TYPES[config.loss_type].reduce(token_loss_L, tokens, config, normaliser)
    share_means, share_extremes = _statistics(tokens.detach(), config)
    return LossOutput(loss, means | share_means, extremes | share_extremes)


def _policy_term(
    tokens: Tokens, config: LossConfig, policy_mask_L: Tensor | None, sampled_logps_L: Tensor | None
) -> Tensor:
    """The loss of each token (L,) without KL."""
    loss_L = LOSS_TYPES[config.loss_type].surrogate(tokens, config)
    if config.off_policy_mask_threshold is not None:
        loss_L = loss_L * _near_policy(tokens, sampled_logps_L, config.off_policy_mask_threshold)
    if policy_mask_L is not None:
        loss_L = loss_L * policy_mask_L
    if tokens.sampling_ratio is not None and config.loss_type != "vespo":  # vespo has it in its own weights
        loss_L = loss_L * tokens.sampling_ratio
    return loss_L


def _corrected(
    tokens: Tokens, old_logps_L: Tensor, sampled_logps_L: Tensor, config: LossConfig
) -> tuple[Tokens, dict[str, Mean], dict[str, Tensor]]:
    """The tokens with their sampling ratio where it is asked for, and what is logged of sampler and trainer."""
    sampled_L = sampled_logps_L.to(old_logps_L)
    gap_L = (old_logps_L - sampled_L).abs()
    gap_L = gap_L[~gap_L.isnan()]
    means = {"sampling/sampling_logp_difference/mean": _mean(gap_L)}
    extremes = {"sampling/sampling_logp_difference/max": _extreme(torch.amax, gap_L)}
    if not config.vllm_importance_sampling_correction:
        return tokens, means, extremes
    ratio_L, ratios = sampling_ratio(
        old_logps_L,
        sampled_L,
        tokens.index,
        tokens.n_completions,
        config.vllm_importance_sampling_mode,
        config.vllm_importance_sampling_clip_min,
        config.vllm_importance_sampling_clip_max,
    )
    if ratios is not ratio_L:
        ratios = ratios[torch.bincount(tokens.index, minlength=tokens.n_completions) > 0]
    means["sampling/importance_sampling_ratio/mean"] = _mean(ratios)
    extremes["sampling/importance_sampling_ratio/min"] = _extreme(torch.amin, ratios)
    extremes["sampling/importance_sampling_ratio/max"] = _extreme(torch.amax, ratios)
    return replace(tokens, sampling_ratio=ratio_L), means, extremes


def _near_policy(tokens: Tokens, sampled_logps_L: Tensor | None, threshold: float) -> Tensor:
    """False for completions with a negative advantage that the policy has left behind since they were sampled: by
    updates, and where another program sampled, by what that one differs in.

    Source: DeepSeek-V3.2, arXiv 2512.02556, equation 9.
    """
    drift_L = -tokens.log_ratio.detach()
    if sampled_logps_L is not None:
        drift_L = (sampled_logps_L.to(drift_L) - tokens.logps.detach()).nan_to_num(nan=0.0)
    drift_M = mean_by_completion(drift_L, tokens.index, tokens.n_completions)
    return (tokens.advantages >= 0) | (drift_M[tokens.index] <= threshold)


def _mean(values: Tensor) -> Mean:
    return Mean(values.sum(), values.new_tensor(len(values)))


def _extreme(reduce: Callable[[Tensor], Tensor], values: Tensor) -> Tensor:
    return reduce(values) if len(values) else values.new_tensor(torch.nan)


def _statistics(tokens: Tokens, config: LossConfig) -> tuple[dict[str, Mean], dict[str, Tensor]]:
    """Clip shares and ratios. At the sequence level a completion counts once, however long, as in TRL.

    Completions without tokens do not count (TRL counts them at the sequence level, with the ratio 1).
    """
    present_M = torch.bincount(tokens.index, minlength=tokens.n_completions) > 0
    by_sequence = config.importance_sampling_level == "sequence"
    means: dict[str, Mean] = {"ratio/mean": _mean(tokens.ratio)}
    extremes = {"ratio/min": _extreme(torch.amin, tokens.ratio), "ratio/max": _extreme(torch.amax, tokens.ratio)}
    for name, share_L in LOSS_TYPES[config.loss_type].shares(tokens, config).items():
        values_L = share_L.to(tokens.ratio)
        share_M = mean_by_completion(values_L, tokens.index, tokens.n_completions)[present_M]
        means[name] = _mean(share_M if by_sequence else values_L)
        if name in _EXTREMES:
            key, reduce = _EXTREMES[name]
            extremes[key] = _extreme(reduce, share_M)
    return means, extremes


_EXTREMES: dict[str, tuple[str, Callable[[Tensor], Tensor]]] = {
    "clip_ratio/low_mean": ("clip_ratio/low_min", torch.amin),
    "clip_ratio/high_mean": ("clip_ratio/high_max", torch.amax),
}
