"""What a step's groups are worth: texts and answers, rewards, totals, group-relative advantages; which have none."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from trl import GRPOConfig

from avst.grpo import advantages, decoupled_advantages, no_spread
from avst.plugins import RewardSpec
from avst.prompt import PromptBuilder
from avst.scoring import Score, Scorer
from avst.types import Group

# (the rows of all processes, where this one's begin) of this process's rows
Everyone = Callable[[Tensor], tuple[Tensor, int]]


def score_groups(groups: Sequence[Group], prompts: PromptBuilder, scorer: Scorer) -> None:
    """Fill in texts, answers in source pixels, rewards and totals of every completion."""
    for group in groups:
        group.texts = [prompts.decode(ids) for ids in group.completion_ids]
        group.answers = [prompts.read(text, group.prompt) for text in group.texts]
    scores: list[Score] = scorer.score(
        [g.prompt.question for g in groups for _ in g.texts],
        [text for g in groups for text in g.texts],
        [answer for g in groups for answer in g.answers],
        [ids for g in groups for ids in g.completion_ids],
        columns={"frame_size": [g.prompt.space.source for g in groups for _ in g.texts]},
    )
    each = iter(scores)
    for group in groups:
        mine = [next(each) for _ in group.texts]
        group.rewards = [score.rewards for score in mine]
        # where every reward abstained there is nothing to compare: NaN counts neither way (as in TRL), 0 would
        group.totals = [
            score.total if any(v is not None for v in score.rewards.values()) else math.nan for score in mine
        ]


def without_spread(groups: Sequence[Group]) -> list[bool]:
    """Whether all totals of a group are equal, group by group."""
    return no_spread(_totals(groups)).tolist()


def nothing_to_learn(groups: Sequence[Group], args: GRPOConfig, specs: Sequence[RewardSpec]) -> list[bool]:
    """Whether a group's rewards alone leave it without advantages, group by group: its totals are all equal; where each
    reward is normalised by itself (normalize_then_sum), those of every reward that has a weight."""
    if args.multi_objective_aggregation != "normalize_then_sum":
        return without_spread(groups)
    rewards, weights = rewards_by_function(groups, specs, args.num_generations or 0)
    return (no_spread(rewards) | (weights[:, 0] == 0)).all(1).tolist()


def set_advantages(groups: Sequence[Group], args: GRPOConfig, specs: Sequence[RewardSpec], everyone: Everyone) -> None:
    """Group-relative advantages. What is taken over the batch (scale_rewards="batch", normalize_then_sum) is taken over
    all processes' groups: every process calls this, with or without groups."""
    totals = _totals(groups, args.num_generations)
    if args.multi_objective_aggregation == "normalize_then_sum":
        rewards, weights = rewards_by_function(groups, specs, args.num_generations or 0)
        (every_reward, first), (every_weight, _) = everyone(rewards), everyone(weights)
        values = decoupled_advantages(every_reward, every_weight)
    else:
        asked = args.scale_rewards
        scale = asked if isinstance(asked, str) else ("group" if asked else "none")
        every_total, first = everyone(totals) if scale == "batch" else (totals, 0)
        values = advantages(every_total, scale)
    mine = values[first : first + len(groups)].tolist()
    for group, row in zip(groups, mine, strict=True):
        group.advantages = row


def may_skip_flat(args: GRPOConfig) -> bool:
    """Whether a group whose advantages are all 0 can be left out of forward and backward and the weights be the same.

    A KL term moves the weights whatever the rewards; bnpo divides by the tokens of the micro-batch, and a quantile of
    the entropies is taken over them, so there the group's tokens count even though its advantages do not.
    """
    return args.beta == 0.0 and args.loss_type != "bnpo" and args.top_entropy_quantile >= 1.0


def _totals(groups: Sequence[Group], size: int | None = None) -> Tensor:
    """(Q, G)"""
    totals = torch.tensor([g.totals for g in groups], dtype=torch.float64)
    return totals if len(groups) else totals.reshape(0, size or 1)


def rewards_by_function(groups: Sequence[Group], specs: Sequence[RewardSpec], size: int) -> tuple[Tensor, Tensor]:
    """(rewards (Q, G, K), NaN where one abstained; weights (Q, 1, K), 0 where a reward does not ask about the task)."""
    rewards = [
        [math.nan if (value := one[spec.name]) is None else value for spec in specs]
        for g in groups
        for one in g.rewards
    ]
    weights = [[spec.weight_for(g.prompt.question.task) or 0.0 for spec in specs] for g in groups]
    return (
        torch.tensor(rewards, dtype=torch.float64).reshape(-1, size, len(specs)),
        torch.tensor(weights, dtype=torch.float64).reshape(-1, 1, len(specs)),
    )
