"""A question as the model is given it: counts, text, gold answer, what the rewards say of it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from avst.assemble import Policy
from avst.models.media_tokens import mel_features, token_kinds
from avst.plan.tokens import PromptShape
from avst.scoring import Scorer
from avst.types import Clip, Prompt, Question

SHORTEST_RUN = 4  # placeholders that follow each other are written as ×n from so many on


@dataclass(slots=True)
class Look:
    """One question, looked at.

    tokens: kind -> count in the prompt;  order: the media tokens' kinds in the prompt's order, as (kind, count) runs;
    text: the prompt with long runs of placeholders abbreviated;  gold: as the model should say it;
    rewards: name -> what the gold answer earns, None where the reward does not apply;  problems: a line for each
    thing that a run would suffer from.
    """

    question: Question
    clip: Clip
    prompt: Prompt
    tokens: dict[str, int]
    order: list[tuple[str, int]]
    text: str
    gold: str
    gold_tokens: int
    rewards: dict[str, float | None]
    reasons: dict[str, list[str]]
    mel: Any = None
    problems: list[str] = field(default_factory=list)

    @property
    def shape(self) -> PromptShape:
        """What the estimate needs of it."""
        return PromptShape.of(self.prompt, self.tokens, self.clip.duration_s)

    def as_json(self) -> dict[str, Any]:
        return {
            "id": self.question.id,
            "task": self.question.task,
            "question": self.question.text,
            "clip": {
                "frames": list(self.clip.frames.shape),
                "fps": self.clip.fps,
                "source_size": list(self.clip.source_size),
                "seconds": self.clip.duration_s,
                "sound": self.mel is not None,
            },
            "tokens": self.tokens,
            "prompt": self.text,
            "gold": self.gold,
            "gold_tokens": self.gold_tokens,
            "rewards": self.rewards,
            "problems": self.problems,
        }


def look_at(question: Question, clip: Clip, parts: Policy, scorer: Scorer, longest: int) -> Look:
    """longest: max_completion_length, which the gold answer and the end token must fit into."""
    prompt = parts.prompts.build(question, clip)
    kinds = token_kinds(prompt, parts.model.config)
    gold = parts.prompts.gold(prompt)
    tokenizer: Any = parts.prompts.processor.tokenizer
    n_gold = len(tokenizer(gold, add_special_tokens=False)["input_ids"]) + 1  # and the end token
    [score] = scorer.score([question], [gold], [parts.prompts.read(gold, prompt)])
    look = Look(
        question,
        clip,
        prompt,
        dict(Counter(kinds)),
        [(kind, len(list(run))) for kind, run in groupby(kinds)],
        abbreviated(tokenizer.decode(prompt.input_ids)),
        gold,
        n_gold,
        dict(score.rewards),
        {name: list(lines) for name, lines in score.reasons.items()},
        mel_features(prompt, parts.prompts.processor),
    )
    look.problems = problems(look, longest, parts.family.hears)
    return look


def problems(look: Look, longest: int, hears: bool) -> list[str]:
    """What of this question a run would suffer from, a line each."""
    found = []
    if look.gold_tokens > longest:
        found.append(
            f"the gold answer takes {look.gold_tokens} tokens, max_completion_length is {longest}: it cannot be written"
        )
    for name, value in look.rewards.items():
        if name != "total" and value is not None and abs(value - 1) > gold_slack(look, name):
            why = "; ".join(look.reasons.get(name, ())) or "no reason given"
            found.append(f"the gold answer earns {value:.4g} by {name}, not 1 ({why})")
    if hears and look.mel is None:
        found.append("the model hears, but is given no sound of this clip (media.audio, or the clip has no track)")
    return found


def gold_slack(look: Look, name: str) -> float:
    """Gold boxes are said in whole pixels of a smaller frame, so their IoU with the annotated ones is not quite 1: at
    most half a pixel an edge, of the smallest box's sides."""
    if name == "format":
        return 1e-6
    space = look.prompt.space
    sides = [
        side
        for gold in look.question.gold.objects
        for box in gold.track.boxes_px
        if any(box)
        for b in (space.to_model(box),)
        for side in (b[2] - b[0], b[3] - b[1])
    ]
    return 1e-6 + (min(1.0, 2.0 / max(min(sides), 1.0)) if sides else 0.05)  # times are said to a tenth of a second


def abbreviated(text: str) -> str:
    """Runs of one special token as token×n. Example: abbreviated("<|V|><|V|><|V|><|V|><|V|>") == "<|V|>×5"."""

    def shorter(match: re.Match[str]) -> str:
        n = len(match[0]) // len(match[1])
        return f"{match[1]}×{n}" if n >= SHORTEST_RUN else match[0]

    return re.sub(r"(<\|[^|<>]+\|>)\1+", shorter, text)


def media_runs(order: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    """The runs between the first and the last media token, text among them left out."""
    return [(kind, n) for kind, n in order if kind != "text"]
