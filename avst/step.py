"""One optimizer step's worth of data, between the rollout and the loss."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import PreTrainedModel

from avst.data import Skipped
from avst.models.families import prompt_positions
from avst.models.features import modalities
from avst.models.packing import PackedRow, pack
from avst.types import Group, Prompt


@dataclass(slots=True)
class MicroBatch:
    """The groups of one forward pass on this process.

    prompts: as drawn, failed samples left out, and after the rollout those of the groups that are computed;
    lost: how many weigh nothing: they failed, or their group was left out because it has nothing to teach;
    groups: what is computed, filled by the rollout;  blank: these are one group that weighs nothing, for every process
    runs every forward;  idle: modalities of the groups that were left out and of no other;
    old_logps, ref_logps: float (ΣC,), kept from iteration 0 for the later ones (the policy that sampled is the policy
    before the step's first update).
    """

    step: Step
    prompts: list[Prompt]
    lost: int = 0
    groups: list[Group] = field(default_factory=list)
    blank: bool = False
    idle: frozenset[str] = frozenset()
    old_logps: Tensor | None = None
    ref_logps: Tensor | None = None

    def take(self, drawn: Sequence[Group], skip_flat: bool, make_blank: Callable[[], Group]) -> int:
        """The groups that the rollout drew for this micro-batch. skip_flat: leave out those whose advantages are all 0;
        returns how many these were."""
        live = [group for group in drawn if any(group.advantages) or not skip_flat]
        left_out = len(drawn) - len(live)
        self.lost += left_out
        self.prompts = [group.prompt for group in live]
        used = {modality for prompt in self.prompts for modality in modalities(prompt)}
        self.idle = frozenset(modality for group in drawn for modality in modalities(group.prompt)) - used
        self.blank = not live
        self.groups = live or [make_blank()]
        return left_out

    def row(self, model: PreTrainedModel) -> PackedRow:
        return pack(
            [g.prompt for g in self.groups],
            [g.completion_ids for g in self.groups],
            [prompt_positions(model, g.prompt) for g in self.groups],
            self.idle,
        )

    def forget_what_is_not_finite(self) -> None:
        """The step was left out: what was kept for later iterations and is not finite is made again, by the policy as
        it still stands. The reference's by every process, whatever it had: its forward may be a collective."""
        if self.old_logps is not None and not bool(self.old_logps.isfinite().all()):
            self.old_logps = None
        self.ref_logps = None

    def advantages(self) -> Tensor:
        """(M,), in the order of the row's completions; behind them a 0 for each completion of the lost groups.

        So M is the number of completions asked for: where a loss is a mean over completions (grpo, dr_grpo, luspo,
        sapo), a lost group weighs nothing and the others weigh no more for it, however the step is cut into
        micro-batches and processes. dapo, cispo and vespo divide by the tokens that were written.
        """
        missing = self.lost * len(self.groups[0].completion_ids)
        return torch.tensor([a for g in self.groups for a in g.advantages] + [0.0] * missing, dtype=torch.float32)

    def sampled_logps(self) -> Tensor:
        """(ΣC,), in the row's order: of each answer token under the program that drew it."""
        found = [logp for g in self.groups for logps in g.sampled_logps for logp in logps]
        return torch.tensor(found, dtype=torch.float64)

    def token_mask(self, row: PackedRow, drop_truncated: bool) -> Tensor:
        """bool (ΣC,): False for the tokens of truncated completions where these are left out of the loss."""
        keep = [not (drop_truncated and cut) for g in self.groups for cut in g.truncated]
        return torch.tensor(keep).repeat_interleave(torch.tensor(row.lengths))


@dataclass(slots=True)
class Step:
    """The micro-batches between two optimizer updates on this process, rolled out together.

    tokens: completion tokens that count, over all processes (what dapo divides by), once rolled out.
    """

    micro_batches: list[MicroBatch] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    rolled_out: bool = False
    tokens: float = 0.0

    @classmethod
    def of(cls, batches: list[list[Prompt | Skipped]]) -> Step:
        step = cls()
        for batch in batches:
            prompts = [row for row in batch if isinstance(row, Prompt)]
            step.skipped += [row for row in batch if isinstance(row, Skipped)]
            step.micro_batches.append(MicroBatch(step, prompts, lost=len(batch) - len(prompts)))
        return step

    @property
    def prompts(self) -> list[Prompt]:
        return [prompt for micro in self.micro_batches for prompt in micro.prompts]

    @property
    def groups(self) -> list[Group]:
        return [group for micro in self.micro_batches for group in micro.groups]


class Meter:
    """Figures between two log lines: means are sums and counts until then, so that processes can be put together."""

    def __init__(self) -> None:
        self.sums: dict[str, float] = defaultdict(float)
        self.counts: dict[str, float] = defaultdict(float)
        self.lows: dict[str, float] = {}
        self.highs: dict[str, float] = {}
        self.totals: dict[str, float] = defaultdict(float)

    def state(self) -> dict[str, dict[str, float]]:
        """For JSON; Meter.of is the contrary."""
        return {name: dict(getattr(self, name)) for name in ("sums", "counts", "lows", "highs", "totals")}

    @classmethod
    def of(cls, state: Mapping[str, Mapping[str, float]]) -> Meter:
        meter = cls()
        for name, values in state.items():
            getattr(meter, name).update(values)
        return meter

    def mean(self, name: str, total: float, count: float = 1.0) -> None:
        self.sums[name] += total
        self.counts[name] += count

    def low(self, name: str, value: float) -> None:
        self.lows[name] = min(value, self.lows.get(name, value))

    def high(self, name: str, value: float) -> None:
        self.highs[name] = max(value, self.highs.get(name, value))

    def add(self, name: str, value: float) -> None:
        """A figure that is summed: seconds, tokens, skipped samples."""
        self.totals[name] += value

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Seconds spent inside, summed under `seconds/<name>`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add(f"seconds/{name}", time.perf_counter() - start)

    def rest(self, name: str, whole: str, parts: tuple[str, ...]) -> None:
        """Seconds of `whole` that are none of `parts`, in place of `whole`. Before processes are put together: the
        slowest one of each part may be another process."""
        if (seconds := self.totals.pop(f"seconds/{whole}", None)) is not None:
            self.add(f"seconds/{name}", seconds - sum(self.totals.get(f"seconds/{part}", 0.0) for part in parts))

    def merged(self, others: list[Meter]) -> dict[str, float]:
        """One number a name over all processes' meters. Seconds are the slowest process's, other totals are summed."""
        out: dict[str, float] = {}
        for name in {n for m in others for n in m.counts}:
            count = sum(m.counts.get(name, 0.0) for m in others)
            if count:  # a mean of nothing is not 0
                out[name] = sum(m.sums.get(name, 0.0) for m in others) / count
        for name in {n for m in others for n in m.lows}:
            out[name] = min(m.lows[name] for m in others if name in m.lows)
        for name in {n for m in others for n in m.highs}:
            out[name] = max(m.highs[name] for m in others if name in m.highs)
        for name in {n for m in others for n in m.totals}:
            each = [m.totals.get(name, 0.0) for m in others]
            out[name] = max(each) if name.startswith("seconds/") else sum(each)
        return dict(sorted(out.items()))
