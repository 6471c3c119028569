"""Cards beside weights: with each checkpoint, with the last weights, and again when they are evaluated.

A card is a comfort: what goes wrong with it is warned of and ends no run. Digests of checkpoints leave it out.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any, cast

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

import avst
from avst.config import Recipe
from avst.durable import write_atomically
from avst.errors import AvstError
from avst.model_card import render
from avst.model_card.facts import Facts, facts_of, newest_figures, newest_start
from avst.processes import processes
from avst.run_folder import RunFolder
from avst.tables import Comparison, as_records

logger = logging.getLogger(__name__)


class CardWriter(TrainerCallback):
    """Writes a card into each checkpoint that the Trainer saves. On the main process alone.

    checkpoint: what the run starts from in place of the recipe's model.path.
    """

    def __init__(self, recipe: Recipe, command: str, checkpoint: str | Path | None, folder: RunFolder) -> None:
        self.folder = folder
        self.facts: Facts | None = None
        if not processes().is_main_process:  # the others would hash the weights and read the data for nothing
            return
        try:
            self.facts = facts_of(recipe, command, checkpoint)
        except (AvstError, OSError) as error:
            logger.warning("no model cards are written: %s", error)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            self.write(self.folder.path / f"checkpoint-{state.global_step}", state.global_step)

    def write(self, checkpoint: Path, step: int) -> None:
        """README.md in the folder of the weights that `step` steps made."""
        if self.facts is None or not checkpoint.is_dir():
            return
        adapters = (checkpoint / "adapter_config.json").is_file()
        try:
            figures, start = newest_figures(self.folder, step), newest_start(self.folder)
            head = render.metadata(self.facts, adapters).to_yaml()
            body = render.text(self.facts, step, figures, start, adapters)
            write_atomically(checkpoint / "README.md", f"---\n{head}\n---\n\n{body}")
        except Exception as error:  # of whatever kind: weights are being saved, and they matter more
            logger.warning("%s: the model card cannot be written: %s", checkpoint, error)


def add_evaluation(checkpoint: str | Path, comparison: Comparison, recipe: Recipe, split: str) -> None:
    """Add an evaluation to the card of a checkpoint in a run's folder, in place of an earlier one of the same split and
    files. Folders without a card of avst, and names on the Hub, are left alone."""
    folder = Path(checkpoint)
    file = folder / "README.md"
    if not (folder.parent / "run.json").is_file() or not file.is_file():
        return
    try:
        written = file.read_text(encoding="utf-8")
        if render.MARK not in written or render.BEGIN not in written or render.END not in written:
            return
        files = list(getattr(recipe.data, split))
        said = {"max_new_tokens": recipe.eval.max_new_tokens, "version": avst.__version__}
        card = ModelCard(_with_section(written, render.evaluation(comparison, split, files, said)))
        cast(ModelCardData, card.data).model_name = recipe.name
        _add_results(card, comparison, split, files)
        write_atomically(file, str(card))
    except (OSError, UnicodeDecodeError, ValueError) as error:  # a head that was edited into something else
        logger.warning("%s: the evaluation is not added to the model card: %s", file, error)


def _with_section(written: str, section: str) -> str:
    """The card with the section between its marks; one with the same first line is replaced."""
    before, rest = written.split(render.BEGIN, 1)
    inside, after = rest.split(render.END, 1)
    title = section.split("\n", 1)[0]
    parts = re.split(r"(?m)^(?=### )", inside.strip())
    kept = [part.strip() for part in parts if part.startswith("### ") and part.split("\n", 1)[0].strip() != title]
    return f"{before}{render.BEGIN}\n\n" + "\n\n".join([*kept, section]) + f"\n\n{render.END}{after}"


def _add_results(card: ModelCard, comparison: Comparison, split: str, files: list[str]) -> None:
    """The figures as the Hub reads them (model-index)."""
    name = ", ".join(Path(file).name for file in files)
    head = cast(ModelCardData, card.data)
    kept = [r for r in head.eval_results or [] if (r.dataset_name, r.dataset_split) != (name, split)]
    new = [
        EvalResult(
            task_type="video-text-to-text",
            task_name=record["task"],
            dataset_type="r_avst",
            dataset_name=name,
            dataset_split=split,
            dataset_config=record["task"],
            metric_type=record["figure"],
            metric_value=round(record["value"], 2),
        )
        for record in as_records(comparison)
        if record["kind"] == "model" and record["value"] is not None
    ]
    head.eval_results = [*kept, *new]
