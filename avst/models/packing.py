"""One packed row for several groups: [prompt 1 | its answers | prompt 2 | its answers | …].

Every prompt stands once, however many answers were sampled for it, so a group costs P + ΣC tokens instead of
G·P + ΣC (docs/architecture.md, "the group is the unit"). Position ids start again behind the prompt for each answer,
and avst.models.attention keeps siblings from seeing each other, so that log-probs and gradients are those of G
separate rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from avst.types import Prompt


@dataclass(frozen=True, slots=True)
class Segment:
    """One group's place in the row.

    start: index of the prompt's first token;  prompt_len: P;  lengths: the G completion lengths.
    gather: int64 (G, C_max), row indices of the answer tokens, padded on the right with the answer's first token (a
    causal mask hides what stands to the right, and padded queries are dropped);
    scatter: int64 (ΣC,), where each answer token stands in the flattened (G, C_max) grid.

    Example: prompt of 5 tokens at 0, answers of 2 and 1 tokens: gather [[5, 6], [7, 7]], scatter [0, 1, 2].
    """

    start: int
    prompt_len: int
    lengths: tuple[int, ...]
    gather: Tensor
    scatter: Tensor

    @property
    def answers_start(self) -> int:
        return self.start + self.prompt_len

    @property
    def end(self) -> int:
        return self.answers_start + sum(self.lengths)


@dataclass(frozen=True, slots=True)
class Layout:
    """Where every group of a row stands; travels as the `group` keyword down to the attention function."""

    segments: tuple[Segment, ...]


@dataclass(slots=True)
class PackedRow:
    """A micro-batch, ready for the forward pass.

    input_ids: int64 (1, L);  position_ids: int64 (3, 1, L) (temporal, height, width);  layout: the segments;
    prompts: the groups' prompts, in row order (their media go with them);
    predictors: int64 (ΣC,), index of the token whose hidden state predicts each answer token: the prompt's last token
    for an answer's first, the token before it for the others;  targets: int64 (ΣC,), the answer tokens themselves;
    lengths: the lengths of all completions in row order;  idle: modalities whose towers get a zero gradient even though
    the row does not use them (avst.models.features.idle_towers).
    """

    input_ids: Tensor
    position_ids: Tensor
    layout: Layout
    prompts: list[Prompt]
    predictors: Tensor
    targets: Tensor
    lengths: list[int] = field(default_factory=list)
    idle: frozenset[str] = frozenset()

    def to(self, device: torch.device) -> PackedRow:
        """The same row with its index tensors on `device` (media move when they are encoded)."""
        segments = tuple(
            Segment(s.start, s.prompt_len, s.lengths, s.gather.to(device), s.scatter.to(device))
            for s in self.layout.segments
        )
        return PackedRow(
            self.input_ids.to(device),
            self.position_ids.to(device),
            Layout(segments),
            self.prompts,
            self.predictors.to(device),
            self.targets.to(device),
            self.lengths,
            self.idle,
        )


def segment(start: int, prompt_len: int, lengths: Sequence[int]) -> Segment:
    """The Segment of a group that starts at `start`; empty completions are refused (a log-prob of nothing is
    undefined).
    """
    if not lengths or min(lengths) < 1:
        raise ValueError(f"every completion of a group needs at least one token, got lengths {list(lengths)}")
    longest = max(lengths)
    first = torch.tensor([start + prompt_len + sum(lengths[:g]) for g in range(len(lengths))])
    offsets = torch.arange(longest).expand(len(lengths), longest)
    inside = offsets < torch.tensor(lengths)[:, None]
    gather = first[:, None] + torch.where(inside, offsets, torch.zeros_like(offsets))
    return Segment(start, prompt_len, tuple(lengths), gather, inside.flatten().nonzero().squeeze(1))


def pack(
    prompts: Sequence[Prompt],
    completions: Sequence[Sequence[Sequence[int]]],
    positions: Sequence[Tensor],
    idle: frozenset[str] = frozenset(),
) -> PackedRow:
    """Pack groups into one row.

    prompts: one per group;  completions: per group, G lists of token ids (not empty);  positions: per group, the
    prompt's position ids (3, P) as generation computes them (avst.models.families.prompt_positions);  idle: as in
    PackedRow.
    """
    ids, places, predictors, segments, lengths = [], [], [], [], []
    start = 0
    for prompt, answers, place in zip(prompts, completions, positions, strict=True):
        prompt_len = int(prompt.input_ids.numel())
        part = segment(start, prompt_len, [len(a) for a in answers])
        segments.append(part)
        ids.append(prompt.input_ids.reshape(-1).cpu())
        places.append(place.cpu())
        # Answers go on right behind the prompt's last token, as in generation. That is not always the largest position:
        # Qwen2.5-VL sets the text behind a clip by the clip's width and height, and time may reach further.
        behind = int(place[:, -1].max()) + 1
        last_of_prompt = start + prompt_len - 1
        token = part.answers_start
        for answer in answers:
            ids.append(torch.tensor(answer, dtype=torch.long))
            places.append((torch.arange(len(answer)) + behind).expand(3, -1))
            predictors += [last_of_prompt, *range(token, token + len(answer) - 1)]
            lengths.append(len(answer))
            token += len(answer)
        start = part.end
    targets = torch.tensor([t for answers in completions for answer in answers for t in answer], dtype=torch.long)
    return PackedRow(
        input_ids=torch.cat(ids)[None],
        position_ids=torch.cat(places, dim=1)[:, None],
        layout=Layout(tuple(segments)),
        prompts=list(prompts),
        predictors=torch.tensor(predictors, dtype=torch.long),
        targets=targets,
        lengths=lengths,
        idle=idle,
    )
