"""Which checkpoint a run goes on from, and whether it may."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accelerate.utils import broadcast_object_list

from avst.checkpoint_digest import checkpoint_digest
from avst.checkpoints import found_in, newest_whole, problems, read_manifest
from avst.config import Recipe
from avst.errors import AvstError
from avst.identity import identity
from avst.pickles import refuse_foreign
from avst.processes import processes
from avst.run_folder import differences

logger = logging.getLogger(__name__)
LATEST = "latest"


def about(recipe: Recipe, command: str, checkpoint: str | Path | None) -> dict[str, Any]:
    """What this run's checkpoints belong to. checkpoint: what it starts from in place of the recipe's model.path."""
    start = recipe.model.path if checkpoint is None else str(checkpoint)
    digest = checkpoint_digest(start, recipe.model.revision if checkpoint is None else None)
    return {"command": command, "processes": processes().num_processes, "seed": recipe.seed, **identity(recipe, digest)}


def choose(run: Path, resume: str, now: Mapping[str, Any] | None, allow_changes: bool) -> Path:
    """The checkpoint to go on from: the newest whole one for "latest", else the one named; of the same recipe, data and
    number of processes. Raises AvstError, in the same words on all processes.

    now: about() of this start, on the main process.
    """
    found: list[Any] = [None, ""]
    if processes().is_main_process:
        try:
            found[0] = str(_chosen(run, resume, now or {}, allow_changes))
            refuse_foreign(Path(found[0]))
        except AvstError as error:
            found[1] = str(error)
    if processes().num_processes > 1:
        broadcast_object_list(found)
    if found[1]:
        raise AvstError(found[1])
    return Path(found[0])


def _chosen(run: Path, resume: str, now: Mapping[str, Any], allow_changes: bool) -> Path:
    if resume == LATEST:
        newest = newest_whole(run) if run.is_dir() else None
        if newest is None:
            broken = [f"{c.path.name}: {c.problems[0]}" for c in found_in(run) if c.problems] if run.is_dir() else []
            why = f"none of its checkpoints is whole ({'; '.join(broken[:3])})" if broken else "it has no checkpoint"
            raise AvstError(f"{run}: cannot go on, {why} (see grpo.save_steps)")
        folder = newest
    else:
        folder = Path(resume)
        if not (folder / "trainer_state.json").is_file():
            raise AvstError(f"{folder}: --resume, but there is no checkpoint of a run there")
        if wrong := problems(folder):
            if not allow_changes:
                raise AvstError(f"{folder}: is not whole: {'; '.join(wrong[:3])}; --allow-changes goes on all the same")
            logger.warning("%s is not whole: %s", folder, "; ".join(wrong))
    if not any(folder.glob("rng_state*.pth")):
        raise AvstError(f"{folder}: holds weights alone (save_only_model): start from them by --model, as another run")
    manifest = read_manifest(folder)
    different = differences(manifest["about"], dict(now)) if manifest is not None else []
    if different:
        shown = "; ".join(different[:5]) + (f"; and {len(different) - 5} more" if len(different) > 5 else "")
        if not allow_changes:
            raise AvstError(f"{folder}: was made by another run: {shown}; --allow-changes goes on all the same")
        logger.warning("%s: going on with changes: %s", folder, shown)
    return folder
