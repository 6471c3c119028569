"""The `rollout` section of a recipe: how answers are drawn beyond what TRL's options say. Every fast path can be turned
off here."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class RolloutOptions:
    """share_prompts: a prompt's cache stands once for its G answers, in memory and in every decoding step; false
    repeats it G times, as transformers' generate does;
    drop_finished: answers that have ended leave the batch once half of it has;  max_rows: at most so many answers are
    decoded together, None for all of a step's (a prompt's G answers always are);
    skip_flat_groups: groups whose rewards are all equal cost no forward and no backward where they cannot move the
    weights (beta 0);  resample_rounds: how many times a step's flat groups are replaced by other questions (DAPO's
    dynamic sampling, with a bound), 0 for never;  vllm_deadline_s: seconds that a request to a vLLM server may take.
    """

    share_prompts: bool = True
    drop_finished: bool = True
    max_rows: int | None = field(default=None, metadata={"least": 1})
    skip_flat_groups: bool = True
    resample_rounds: int = field(default=0, metadata={"least": 0})
    vllm_deadline_s: float = field(default=1800.0, metadata={"above": 0})
