"""Other questions in place of those whose answers were all worth the same (DAPO's dynamic sampling, with a bound).

Source: Yu et al., "DAPO", arXiv 2503.14476, section 3.2. There, prompts are drawn until the batch is full; here a step
draws for `rollout.resample_rounds` rounds at most, and what is still flat after them stays. Nothing in a round waits
for another process: one may have more to replace than its siblings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from avst.data import Skipped
from avst.group_rewards import without_spread
from avst.step import Meter, Step
from avst.types import Group, Prompt


class Resampler:
    """Draws rows of the training set by (seed, step, round) alone, so that a resumed run draws the same.

    rows: the training set;  process, processes: this one's number, and how many there are: they draw different rows.
    """

    def __init__(self, rows: Any, rounds: int, seed: int, process: int, processes: int) -> None:
        self.rows, self.rounds, self.seed = rows, rounds, seed
        self.process, self.processes = process, processes

    def draw(self, step: int, number: int, count: int) -> list[Prompt | Skipped]:
        """`count` rows (fewer where the set has no more) of round `number` of optimizer step `step`."""
        generator = torch.Generator().manual_seed(((self.seed * 1_000_003) + step) * 101 + number)
        order = torch.randperm(len(self.rows), generator=generator).tolist()
        return [self.rows[row] for row in order[self.process :: self.processes][:count]]

    def replace_flat(
        self,
        step: Step,
        number: int,
        groups: list[Group],
        roll_out: Callable[[Sequence[Prompt]], list[Group]],
        meter: Meter,
    ) -> list[Group]:
        """The step's groups, flat ones replaced where a round found a group with spread.

        number: of the optimizer step;  roll_out: prompts -> groups, sampled and scored.
        """
        groups = list(groups)
        for round_number in range(self.rounds):
            flat = [place for place, is_flat in enumerate(without_spread(groups)) if is_flat]
            if not flat:
                break
            rows = self.draw(number, round_number, len(flat))
            step.skipped += [row for row in rows if isinstance(row, Skipped)]
            asked = {group.prompt.question.id for group in groups}
            prompts = [row for row in rows if isinstance(row, Prompt) and row.question.id not in asked]
            new = roll_out(prompts)
            spread = [group for group, is_flat in zip(new, without_spread(new), strict=True) if not is_flat]
            for place, group in zip(flat, spread, strict=False):
                groups[place] = group
            meter.add("resample/asked", len(prompts))
            meter.add("resample/filled", len(spread))
        return groups
