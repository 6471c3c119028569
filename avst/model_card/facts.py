"""What a card says of a run, taken from its recipe, its data and its folder."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avst import assemble
from avst.checkpoint_digest import checkpoint_digest
from avst.config import Recipe, recipe_values
from avst.durable import file_digest
from avst.errors import AvstError
from avst.models.packaged import PACKAGED
from avst.run_folder import RunFolder, masked

_HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w.-]+")


@dataclass(frozen=True)
class Facts:
    """command: train or sft;  base: the weights that training began from, and their digest;  questions: task -> number;
    data: training file -> digest;  values: the recipe without credentials.

    Example: Facts("train", "runs/a-sft/final", "90ab…", {"st": 40}, {"scenes/annotations_train.json": "12cd…"}, …)
    """

    command: str
    base: str
    base_digest: str
    questions: Mapping[str, int]
    data: Mapping[str, str]
    values: Mapping[str, Any]

    @property
    def hub_base(self) -> str | None:
        """The base as the Hub knows it; a folder of this machine is no name there, nor is a model in avst itself."""
        here = self.base in PACKAGED or Path(self.base).exists()
        return self.base if _HUB_NAME.fullmatch(self.base) and not here else None


def facts_of(recipe: Recipe, command: str, checkpoint: str | Path | None) -> Facts:
    """What does not change while a run goes on. checkpoint: what it starts from in place of model.path."""
    base = str(checkpoint if checkpoint is not None else recipe.model.path)
    try:
        digest = checkpoint_digest(base, recipe.model.revision if checkpoint is None else None)
    except AvstError:
        digest = "unknown"
    tasks = Counter(question.task for question in assemble.questions(recipe, "train"))
    data = {file: file_digest(Path(file)) for file in recipe.data.train}
    return Facts(command, base, digest, dict(sorted(tasks.items())), data, masked(recipe_values(recipe)))


def newest_figures(folder: RunFolder, step: int) -> dict[str, Any]:
    """The last log line up to `step` that holds a reward or a loss; {} where there is none."""
    for row in reversed(folder.metrics()):
        if row.get("step", 0) <= step and ("reward" in row or "loss" in row):
            return row
    return {}


def newest_start(folder: RunFolder) -> dict[str, Any]:
    """The last entry of run.json, with "number" (how many starts there were)."""
    try:
        starts = json.loads((folder.path / "run.json").read_text(encoding="utf-8"))["starts"]
        return {**starts[-1], "number": len(starts)}
    except (OSError, ValueError, KeyError, IndexError, TypeError, RecursionError):
        return {}
