"""A control: the paper's total, handed to the wrong answer.

`shuffled` computes the four rewards with their weights and deals the totals of a group out among its completions at
random. Group, spread, step size and data are those of GRPO; only what is good about an answer is lost, so whatever a
policy gains by it, it does not gain by being rewarded.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from avst.plugins import load_specs
from avst.types import Task


def totals(prompts: list, completions: list, completion_ids: list, task: list[Task], **columns: Any) -> np.ndarray:
    """(G,) weight times reward, summed over the paper's four as the Scorer does (Eq. 7)."""
    found = np.zeros(len(completions))
    for spec in load_specs():
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
