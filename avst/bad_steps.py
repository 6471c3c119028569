"""Steps whose loss or gradient was no finite number: counted, kept for inspection, and the end of the run when there
are too many.

    bad_steps/step-00012-rank1/batch.json    that process's answers, rewards, advantages and token ids of the step, and
                                             which numbers were not finite

Nothing here needs torch: avst.finite looks at the numbers.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from avst.checkpoints import sync_folder
from avst.durable import json_safe, write_atomically
from avst.errors import AvstError

FOLDER = "bad_steps"


@dataclass(frozen=True)
class BadStepBounds:
    """The `bad_steps` section of a recipe: how many steps without an update end the run.

    in_a_row: so many, one after the other;  in_all: so many since the run began, over all its starts.
    """

    in_a_row: int = field(default=3, metadata={"least": 1})
    in_all: int = field(default=20, metadata={"least": 1})


@dataclass(slots=True)
class BadSteps:
    """What has been counted. in_a_row, in_all: steps;  untold: those since the last log line."""

    in_a_row: int = 0
    in_all: int = 0
    untold: int = 0

    def state(self) -> dict[str, int]:
        """For a checkpoint: a run that goes on counts on."""
        return {"in_a_row": self.in_a_row, "in_all": self.in_all, "untold": self.untold}

    @classmethod
    def of(cls, state: Mapping[str, int]) -> BadSteps:
        return cls(**state)

    def good(self) -> None:
        self.in_a_row = 0

    def bad(self) -> None:
        self.in_a_row += 1
        self.in_all += 1
        self.untold += 1

    def told(self) -> int:
        """The steps since this was last asked."""
        untold, self.untold = self.untold, 0
        return untold

    def end_beyond(self, bounds: BadStepBounds, last: str, folder: Path) -> None:
        """AvstError where there were too many. last: what was wrong with the newest one."""
        if self.in_a_row >= bounds.in_a_row:
            many, key = f"{self.in_a_row} in a row", "bad_steps.in_a_row"
        elif self.in_all >= bounds.in_all:
            many, key = f"{self.in_all} in all", "bad_steps.in_all"
        else:
            return
        raise AvstError(
            f"steps without an update: {many} ({key}), the last one {last}; what they were made of is in {folder}; a "
            "lower learning rate or max_grad_norm, or model.dtype=float32, is what mends it most often"
        )


def save_batch(folder: Path, step: int, rank: int, wrong: Sequence[str], batch: Mapping[str, Any]) -> Path:
    """Write what a process made of a step to `folder`/step-…-rank…, whole or not at all; returns that place.

    wrong: the numbers that were not finite;  batch: JSON. Raises OSError.
    """
    place = folder / f"step-{step:05d}-rank{rank}"
    written = folder / f".{place.name}"
    shutil.rmtree(written, ignore_errors=True)
    written.mkdir(parents=True)
    record = {"step": step, "process": rank, "not finite": list(wrong), **batch}
    write_atomically(written / "batch.json", json.dumps(json_safe(record), indent=1, ensure_ascii=False) + "\n")
    shutil.rmtree(place, ignore_errors=True)  # of a start that went over this step before
    os.rename(written, place)
    sync_folder(folder)
    return place
