"""Other questions in place of those whose answers were all worth the same (DAPO's dynamic sampling, with a bound).

Source: Yu et al., "DAPO", arXiv 2503.14476, section 3.2. There, prompts are drawn until the batch is full; here a step
draws for `rollout.resample_rounds` rounds at most, and what is still flat after them stays. Nothing in a round waits
for another process: one may have more to replace than its siblings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice

import torch

from avst.data import Skipped
from avst.step import Meter
from avst.types import Group, Prompt


def other_rows(
    count: int, in_step: Iterable[int], seed: int, step: int, process: int = 0, processes: int = 1
) -> list[int]:
    """Rows of a training set that a process may ask in an optimizer step besides its own, in the order to ask them.

    count: rows of the set;  in_step: rows of the step itself, over all processes. The order of all is that of (seed,
    step), and each process takes every `processes`-th: none is asked twice in a step, and a resumed run asks the same.
    """
    generator = torch.Generator().manual_seed((seed * 1_000_003 + step) * 101 + 1)  # none that a StepSampler has
    order = torch.randperm(count, generator=generator).tolist()
    taken = set(in_step)
    return [row for row in order if row not in taken][process::processes]


def replace_flat(
    groups: Sequence[Group],
    rounds: int,
    rows: Iterable[Prompt | Skipped],
    roll_out: Callable[[list[Prompt]], list[Group]],
    flat: Callable[[Sequence[Group]], list[bool]],
    meter: Meter,
) -> tuple[list[Group], list[Skipped]]:
    """(The step's groups, flat ones replaced where a round found a group with spread; rows that could not be asked).

    rows: what may be asked, made when it is drawn, one for each group that is flat at the beginning of a round;
    roll_out: prompts -> groups, sampled and scored;  flat: whether a group has nothing to teach, group by group.
    """
    groups, source = list(groups), iter(rows)
    skipped: list[Skipped] = []
    for _ in range(rounds):
        places = [place for place, is_flat in enumerate(flat(groups)) if is_flat]
        with meter.phase("resample"):  # the clips are decoded here
            drawn = list(islice(source, len(places)))
        if not drawn:
            break
        skipped += [row for row in drawn if isinstance(row, Skipped)]
        new = roll_out([row for row in drawn if isinstance(row, Prompt)])
        dropped: list[Group] = []
        filled = 0
        for group, is_flat in zip(new, flat(new), strict=True):
            if not is_flat:
                place, filled = places[filled], filled + 1
                groups[place], group = group, groups[place]
            dropped.append(group)
        meter.add("resample/asked", len(new))
        meter.add("resample/filled", filled)
        meter.add("resample/dropped_tokens", sum(len(ids) for group in dropped for ids in group.completion_ids))
    return groups, skipped
