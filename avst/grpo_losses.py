"""The loss types of GRPO: each is a surrogate (a loss a token) and a reduction (tokens to one number).

Letters as in `avst.grpo`: M completions of a micro-batch, L tokens of them laid end to end. To add a loss type, write
what is new of the two and add a line to `LOSS_TYPES`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from avst.errors import AvstError
from avst.grpo_sampling import SAMPLING_MODES


@dataclass(frozen=True, slots=True)
class LossConfig:
    """The options of TRL's GRPOConfig that the loss reads, under their own names and with their defaults.

    GSPO is importance_sampling_level="sequence" with loss_type="grpo". For cispo, epsilon_high is the bound itself and
    not a distance from 1 (ScaleRL recommends 5.0); unset it falls back to epsilon, here as in TRL.
    """

    loss_type: str = "dapo"
    beta: float = 0.0
    epsilon: float = 0.2
    epsilon_high: float | None = None
    delta: float | None = None
    importance_sampling_level: str = "token"
    max_completion_length: int | None = 512
    use_bias_correction_kl: bool = True
    off_policy_mask_threshold: float | None = None
    sapo_temperature_neg: float = 1.05
    sapo_temperature_pos: float = 1.0
    vespo_k_pos: float = 2.0
    vespo_lambda_pos: float = 3.0
    vespo_k_neg: float = 3.0
    vespo_lambda_neg: float = 2.0
    vllm_importance_sampling_correction: bool = True
    vllm_importance_sampling_mode: str = "sequence_mask"
    vllm_importance_sampling_clip_max: float | None = 3.0
    vllm_importance_sampling_clip_min: float | None = None

    def __post_init__(self) -> None:
        if self.loss_type == "gspo":
            raise AvstError('loss_type: GSPO is importance_sampling_level="sequence" with loss_type="grpo"')
        if self.loss_type not in LOSS_TYPES:
            raise AvstError(f"loss_type: {self.loss_type!r} is none of {', '.join(LOSS_TYPES)}")
        if self.importance_sampling_level not in IMPORTANCE_LEVELS:
            known = ", ".join(IMPORTANCE_LEVELS)
            raise AvstError(f"importance_sampling_level: {self.importance_sampling_level!r} is none of {known}")
        if self.loss_type == "dr_grpo" and not self.max_completion_length:
            raise AvstError("max_completion_length: loss_type dr_grpo divides by it, so it must be a positive number")
        if (mode := self.vllm_importance_sampling_mode) not in SAMPLING_MODES:
            raise AvstError(f"vllm_importance_sampling_mode: {mode!r} is none of {', '.join(SAMPLING_MODES)}")

    @classmethod
    def of(cls, options: Any) -> LossConfig:
        """Read from anything that has attributes of these names: a GRPOConfig."""
        return cls(**{f.name: getattr(options, f.name) for f in fields(cls)})


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a loss may read of the L tokens; every tensor is (L,), n_completions is M.

    ratio: policy / sampling policy: the token's own, or its completion's geometric mean (sequence level).
    log_ratio: always the token's own. advantages: those of the token's completion.
    sampling_ratio: what corrects for a sampler that is not quite the policy (avst.grpo_sampling), None for nothing.
    """

    logps: Tensor
    log_ratio: Tensor
    ratio: Tensor
    advantages: Tensor
    index: Tensor
    n_completions: int
    sampling_ratio: Tensor | None = None

    def detach(self) -> Tokens:
        logps, log_ratio, ratio = self.logps.detach(), self.log_ratio.detach(), self.ratio.detach()
        return replace(self, logps=logps, log_ratio=log_ratio, ratio=ratio)


@dataclass(frozen=True, slots=True)
class Normaliser:
    """By what a micro-batch's loss is divided, so that a step's micro-batches add up.

    accumulation_steps: micro-batches in this optimizer step (fewer at the end of an epoch; 1 in evaluation);
    tokens: one process's share of the completion tokens of the step, see `step_tokens`; dapo, cispo and vespo need it.
    """

    accumulation_steps: int = 1
    tokens: float | Tensor | None = None


def step_tokens(
    num_items_in_batch: Tensor, num_processes: int = 1, accumulation_steps: int = 1, steps_per_generation: int = 1
) -> Tensor:
    """One process's mean share of the tokens of one optimizer step, from the count of one generation batch.

    num_items_in_batch: completion tokens that count (truncated completions left out where they are masked), of all
    processes and all `steps_per_generation` micro-batches generated together.
    """
    share = num_items_in_batch.clamp(min=1.0) / num_processes
    return share * accumulation_steps / steps_per_generation


def sum_by_completion(values_L: Tensor, index_L: Tensor, n_completions: int) -> Tensor:
    """Σ of a completion's tokens, 0 for one without tokens; shape (M,)."""
    return values_L.new_zeros(n_completions).index_add(0, index_L, values_L)


def mean_by_completion(values_L: Tensor, index_L: Tensor, n_completions: int) -> Tensor:
    """Mean of a completion's tokens, 0 for one without tokens; shape (M,)."""
    counts_M = torch.bincount(index_L, minlength=n_completions).clamp(min=1)
    return sum_by_completion(values_L, index_L, n_completions) / counts_M


# ---- importance: log-ratios of the tokens -> log-ratio that each token is weighted by (L,) ---------------------------


def _token_level(log_ratio_L: Tensor, index_L: Tensor, n_completions: int) -> Tensor:
    return log_ratio_L


def _sequence_level(log_ratio_L: Tensor, index_L: Tensor, n_completions: int) -> Tensor:
    return mean_by_completion(log_ratio_L, index_L, n_completions)[index_L]


IMPORTANCE_LEVELS: dict[str, Callable[[Tensor, Tensor, int], Tensor]] = {
    "token": _token_level,
    "sequence": _sequence_level,  # GSPO (arXiv 2507.18071): the geometric mean of a completion's ratios
}


# ---- surrogates: (tokens, config) -> loss of each token (L,) ---------------------------------------------------------


def _high(config: LossConfig) -> float:
    return config.epsilon if config.epsilon_high is None else config.epsilon_high


def _bounded_ratio(tokens: Tokens, config: LossConfig) -> Tensor:
    """The ratio under INTELLECT-2's second bound (arXiv 2505.07291), which also holds for negative advantages."""
    return tokens.ratio if config.delta is None else tokens.ratio.clamp(max=config.delta)


def clipped(tokens: Tokens, config: LossConfig) -> Tensor:
    """PPO's pessimistic clip: -min(ratio·A, clip(ratio, 1 - low, 1 + high)·A)."""
    inside = tokens.ratio.clamp(1 - config.epsilon, 1 + _high(config))
    return -torch.min(_bounded_ratio(tokens, config) * tokens.advantages, inside * tokens.advantages)


def cispo(tokens: Tokens, config: LossConfig) -> Tensor:
    """REINFORCE weighted by the clipped ratio, so that no token loses its gradient. Source: arXiv 2506.13585."""
    return -tokens.ratio.clamp(max=_high(config)).detach() * tokens.advantages * tokens.logps


def sapo(tokens: Tokens, config: LossConfig) -> Tensor:
    """A sigmoid gate in place of the clip, steeper for negative advantages. Source: arXiv 2511.20347."""
    positive, negative = config.sapo_temperature_pos, config.sapo_temperature_neg
    temperature = torch.where(tokens.advantages > 0, positive, negative).to(tokens.ratio)
    return -torch.sigmoid(temperature * (tokens.ratio - 1)) * 4 / temperature * tokens.advantages


def gamma_weights(tokens: Tokens, config: LossConfig) -> Tensor:
    """VESPO's weight of each token's completion, e^λ w^k e^(-λw) with w the whole completion's ratio; no gradient.

    The bounds (-20, 20 and 1e-8) are the authors'. Source: arXiv 2602.10693.
    """
    log_ratio = tokens.log_ratio.detach().clamp(-20.0, 20.0)
    if tokens.sampling_ratio is not None:
        log_ratio = log_ratio + tokens.sampling_ratio.log().clamp(math.log(1e-8), 20.0)
    log_w = sum_by_completion(log_ratio, tokens.index, tokens.n_completions).clamp(math.log(1e-8), 20.0)[tokens.index]
    positive = tokens.advantages >= 0
    k = torch.where(positive, config.vespo_k_pos, config.vespo_k_neg).to(log_w)
    lam = torch.where(positive, config.vespo_lambda_pos, config.vespo_lambda_neg).to(log_w).clamp(min=1e-4)
    return (lam + k * log_w - lam * log_w.exp()).exp().nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)


def vespo(tokens: Tokens, config: LossConfig) -> Tensor:
    """REINFORCE under a smooth weight of the whole completion."""
    return -gamma_weights(tokens, config) * tokens.advantages * tokens.logps


# ---- reductions: (loss of each token, tokens, config, normaliser) -> scalar ------------------------------------------


def mean_of_means(loss_L: Tensor, tokens: Tokens, config: LossConfig, normaliser: Normaliser) -> Tensor:
    """Every completion weighs the same, however long (so a token of a short one weighs more)."""
    return mean_by_completion(loss_L, tokens.index, tokens.n_completions).mean() / normaliser.accumulation_steps


def mean_of_sums(loss_L: Tensor, tokens: Tokens, config: LossConfig, normaliser: Normaliser) -> Tensor:
    """Every completion weighs as much as it is long. Source: LUSPO, arXiv 2602.05261."""
    return loss_L.sum() / tokens.n_completions / normaliser.accumulation_steps


def mean_of_budget(loss_L: Tensor, tokens: Tokens, config: LossConfig, normaliser: Normaliser) -> Tensor:
    """Divided by the tokens that there could have been: no bias by length. Source: Dr. GRPO, arXiv 2503.20783."""
    assert config.max_completion_length is not None  # LossConfig refuses dr_grpo without it
    return loss_L.sum() / (tokens.n_completions * config.max_completion_length) / normaliser.accumulation_steps


def mean_of_batch(loss_L: Tensor, tokens: Tokens, config: LossConfig, normaliser: Normaliser) -> Tensor:
    """Every token of this micro-batch weighs the same."""
    return loss_L.sum() / max(len(loss_L), 1) / normaliser.accumulation_steps


def mean_of_step(loss_L: Tensor, tokens: Tokens, config: LossConfig, normaliser: Normaliser) -> Tensor:
    """Every token of the optimizer step weighs the same. Source: DAPO, arXiv 2503.14476."""
    if normaliser.tokens is None:
        raise ValueError(f"loss_type {config.loss_type} is divided by the step's tokens: give Normaliser.tokens")
    return loss_L.sum() / normaliser.tokens


# ---- what is logged of each: name -> value of each token (L,) --------------------------------------------------------


def clip_shares(tokens: Tokens, config: LossConfig) -> dict[str, Tensor]:
    """Where the clip took the gradient away: below with A < 0, above with A > 0, either."""
    ratio = _bounded_ratio(tokens, config)
    low = (ratio < 1 - config.epsilon) & (tokens.advantages < 0)
    high = (ratio > 1 + _high(config)) & (tokens.advantages > 0)
    return {"clip_ratio/low_mean": low, "clip_ratio/high_mean": high, "clip_ratio/region_mean": low | high}


def cispo_share(tokens: Tokens, config: LossConfig) -> dict[str, Tensor]:
    return {"cispo_clip_ratio": (tokens.ratio > _high(config)) & (tokens.advantages > 0)}


def no_shares(tokens: Tokens, config: LossConfig) -> dict[str, Tensor]:
    return {}


@dataclass(frozen=True, slots=True)
class LossType:
    surrogate: Callable[[Tokens, LossConfig], Tensor]
    reduce: Callable[[Tensor, Tokens, LossConfig, Normaliser], Tensor]
    shares: Callable[[Tokens, LossConfig], dict[str, Tensor]]


LOSS_TYPES: dict[str, LossType] = {
    "grpo": LossType(clipped, mean_of_means, clip_shares),
    "dr_grpo": LossType(clipped, mean_of_budget, clip_shares),
    "dapo": LossType(clipped, mean_of_step, clip_shares),
    "bnpo": LossType(clipped, mean_of_batch, clip_shares),
    "luspo": LossType(clipped, mean_of_sums, clip_shares),
    "cispo": LossType(cispo, mean_of_step, cispo_share),
    "sapo": LossType(sapo, mean_of_means, no_shares),
    "vespo": LossType(vespo, mean_of_step, no_shares),
}
