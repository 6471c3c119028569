"""What a GRPO user looks at, under TRL's names where TRL has one."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from avst.data import Skipped
from avst.grpo import LossOutput
from avst.models.feature_store import FeatureStore
from avst.step import Meter
from avst.types import Group


def log_rollout(meter: Meter, groups: list[Group], skipped: list[Skipped]) -> None:
    """Rewards in total and by part, overall and by task; spread; lengths; truncation; skipped samples."""
    meter.add("samples/skipped", sum(one.questions for one in skipped))
    for group in groups:
        task = group.prompt.question.task
        known = [total for total in group.totals if total == total]
        if known:
            mean = sum(known) / len(known)
            spread = (sum((t - mean) ** 2 for t in known) / max(len(known) - 1, 1)) ** 0.5
            for name in ("reward", f"reward/{task}"):
                meter.mean(name, sum(known), len(known))
            meter.mean("reward_std", spread)
        for rewards in group.rewards:
            for name, value in rewards.items():
                if value is not None:
                    meter.mean(f"rewards/{name}/mean", value)
                    meter.mean(f"rewards/{name}/{task}", value)
        for ids, cut in zip(group.completion_ids, group.truncated, strict=True):
            meter.mean("completions/mean_length", len(ids))
            meter.low("completions/min_length", len(ids))
            meter.high("completions/max_length", len(ids))
            meter.mean("completions/clipped_ratio", float(cut))
            meter.add("completions/tokens", len(ids))
        meter.mean("prompts/mean_length", int(group.prompt.input_ids.numel()))


def log_loss(meter: Meter, result: LossOutput, entropies: Tensor) -> None:
    """KL, clip ratios, importance ratios (avst.grpo) and the policy's entropy a token."""
    meter.mean("entropy", float(entropies.sum()), entropies.numel())
    for name, (total, count) in result.means.items():
        meter.mean(name, total.item(), count.item())
    for name, value in result.extremes.items():
        number = value.item()
        if number == number:
            (meter.low if name.endswith("min") else meter.high)(name, number)


def log_features(meter: Meter, store: FeatureStore | None) -> None:
    """What the feature store did since the last call: the share of asked features that a tower need not make, and how
    many were made. Features kept on a prompt (rollout, policy and reference share them) are not asked for."""
    if store is not None:
        new = store.since_told()
        meter.mean("features/hit_rate", new.hits, new.hits + new.computed)
        meter.add("features/computed", new.computed)


def completion_rows(step: int, groups: list[Group]) -> list[dict[str, Any]]:
    """One flat dict a completion: what it answered, what it got and how far that was above its siblings."""
    return [
        {
            "step": step,
            "question_id": group.prompt.question.id,
            "task": group.prompt.question.task,
            "prompt": group.prompt.question.text,
            "gold": group.prompt.question.gold_text,
            "completion": group.texts[i],
            "rewards": group.rewards[i],
            "total": group.totals[i],
            "advantage": group.advantages[i],
            "truncated": group.truncated[i],
            "n_tokens": len(group.completion_ids[i]),
            "space": [*group.prompt.space.source, *group.prompt.space.model],
        }
        for group in groups
        for i in range(len(group.texts))
    ]


def group_record(groups: list[Group]) -> list[dict[str, Any]]:
    """What a step that could not be learnt from was made of, to be read by people: a dict a group, a dict an answer."""
    return [
        {
            "question_id": group.prompt.question.id,
            "clip": group.prompt.question.video,
            "prompt_tokens": int(group.prompt.input_ids.numel()),
            "completions": [
                {
                    "text": group.texts[i] if group.texts else "",  # a blank group was never scored
                    "rewards": group.rewards[i] if group.rewards else {},
                    "total": group.totals[i] if group.totals else None,
                    "advantage": group.advantages[i],
                    "truncated": group.truncated[i],
                    "token_ids": ids,
                }
                for i, ids in enumerate(group.completion_ids)
            ],
        }
        for group in groups
    ]
