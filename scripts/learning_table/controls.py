"""A control: the recipe's total, handed to the wrong answer.

`shuffled` computes the rewards of recipes/quickstart.yaml with their weights and deals the totals of a group out among
its completions at random. Group, spread, step size and data are those of GRPO; only what is good about an answer is
lost, so whatever a policy gains by it, it does not gain by being rewarded.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from avst.config import load_recipe, recipe_values
from avst.plugins import RewardSpec, load_specs
from avst.types import Task

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "quickstart.yaml"


@cache
def _specs() -> tuple[RewardSpec, ...]:
    return tuple(load_specs(recipe_values(load_recipe(RECIPE))["rewards"], RECIPE.parent))


def totals(prompts: list, completions: list, completion_ids: list, task: list[Task], **columns: Any) -> np.ndarray:
    """(G,) weight times reward, summed as the Scorer does (Eq. 7)."""
    found = np.zeros(len(completions))
    for spec in _specs():
        weight = spec.weight_for(task[0])
        if weight:
            rewards = spec.function(prompts, completions, completion_ids, task=task, **columns)
            found += weight * np.array([0.0 if reward is None else reward for reward in rewards])
    return found


def shuffled(prompts: list, completions: list, completion_ids: list, **columns: Any) -> list[float]:
    """The totals of a group in another order. The order follows from the completions' texts alone."""
    texts = "\0".join(completion[0]["content"] for completion in completions)
    seed = hashlib.blake2b(texts.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    order = np.random.default_rng(int.from_bytes(seed)).permutation(len(completions))
    return totals(prompts, completions, completion_ids, **columns)[order].tolist()
