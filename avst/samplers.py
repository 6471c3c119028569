"""Who writes the answers: this process itself (avst.rollout), or vLLM (avst.vllm_rollout)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import nn

from avst.rollout import Sampling, rollout
from avst.rollout_options import RolloutOptions
from avst.types import Group, Prompt


class Sampler(Protocol):
    """Draws the answers of a group.

    elsewhere: another program samples, with kernels of its own, so that its log-probs are compared with the trainer's
    and corrected for (avst.grpo_sampling).
    """

    elsewhere: bool

    def follow(self, policy: nn.Module, step: int) -> None:
        """Take over the policy as it stands at an optimizer step, before its rollout. Every process calls it, also one
        whose prompts all failed.

        policy: the trained transformers model with whole weights, its adapters in place.
        """

    def rest(self) -> None:
        """The rollout is over. Every process calls it, also one whose prompts all failed."""

    def sample(self, model: Any, prompts: Sequence[Prompt]) -> list[Group]:
        """A Group a prompt, in the order of `prompts`, without rewards.

        model: the transformers model inside the policy, in evaluation mode.
        """


@dataclass(slots=True)
class InProcess:
    """The model that is trained writes them itself, with the library's `generate`. Arguments: those of `rollout`."""

    num_generations: int
    sampling: Sampling
    end_ids: list[int]
    pad_id: int
    options: RolloutOptions
    elsewhere: bool = False

    def follow(self, policy: nn.Module, step: int) -> None:
        """It is the policy."""

    def rest(self) -> None:
        """It holds nothing of its own."""

    def sample(self, model: Any, prompts: Sequence[Prompt]) -> list[Group]:
        return rollout(model, prompts, self.num_generations, self.sampling, self.end_ids, self.pad_id, self.options)
