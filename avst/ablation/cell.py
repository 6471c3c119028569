"""One cell: train, then evaluate, each in a process of its own, so that what goes wrong in it ends nothing else.

    cell.json   what was trained (recipe, starting weights, data), how far it came, and how it failed
    log.txt     what both processes said
    eval/       answers and scores, a folder a split

A cell that is finished is left alone; one that was interrupted goes on from its newest whole checkpoint.
"""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from avst.ablation.plan import Cell, Plan
from avst.checkpoint_digest import checkpoint_digest
from avst.checkpoints import newest_whole
from avst.durable import json_safe, write_atomically
from avst.errors import AvstError
from avst.identity import file_digests, identity
from avst.run_folder import differences
from avst.secrets import words_without_secrets

Say = Callable[[str], None]
ROW = "final"  # the name of a cell's own row, and folder, in its evaluation
START = "untrained"
LOOKS, LOOK_S = 10, 0.05  # a worker tries for half a second to get a lock that a `--list` may hold for an instant


@dataclass(frozen=True, slots=True)
class State:
    """stage: not begun, training, evaluating, finished, failed or running elsewhere;  why: of a failure, with its log.

    Example: State("failed", "training ended with status 1: avst: error: … (log: runs/…/log.txt)")
    """

    stage: str
    why: str = ""


class Failed(Exception):
    """One stage of a cell did not end well."""


def known(cell: Cell) -> dict[str, Any]:
    """What cell.json says, {} where there is none. Raises AvstError for one that cannot be read."""
    file = cell.folder / "cell.json"
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise AvstError(f"{file}: cannot be read ({error}); delete {cell.folder} to train this cell anew") from error
    if not isinstance(record, dict) or not isinstance(record.get("identity"), dict):
        raise AvstError(f"{file}: is no record of a cell; delete {cell.folder} to train this cell anew")
    return record


def state(cell: Cell) -> State:
    record = known(cell)
    if not record:
        return State("not begun")
    with _lock(cell.folder, look=True) as free:
        if not free:
            return State("running elsewhere")
    stage = record.get("stage")
    return State(stage if stage in ("finished", "failed") else "interrupted", str(record.get("why", "")))


def check_identities(plan: Plan, weights: bool = True) -> dict[str, dict[str, Any]]:
    """Cell -> its identity. Raises AvstError where a cell's folder holds another recipe's, before anything is run.

    weights: look at the starting weights too; without them tables can be made where the model is not.
    """
    digests: dict[str, str] = {}
    found = {}
    for cell in plan.cells:
        recipe = plan.cell_recipe(cell)
        path = recipe.model.path
        earlier = known(cell).get("identity")
        if weights and path not in digests:
            digests[path] = checkpoint_digest(path, recipe.model.revision)
        found[cell.name] = identity(recipe, digests[path] if weights else (earlier or {}).get("starting weights", ""))
        if earlier is not None and (different := differences(earlier, found[cell.name])):
            raise AvstError(
                f"{cell.folder}: holds a cell of another recipe: {'; '.join(different[:5])}; choose another --out, or "
                "delete that folder"
            )
    return found


def run_cell(plan: Plan, cell: Cell, same: dict[str, Any], say: Say) -> State:
    """Bring a cell to its end. same: its identity. Returns how it stands; raises nothing of its processes' making."""
    cell.folder.mkdir(parents=True, exist_ok=True)
    with _lock(cell.folder) as free:
        if not free:
            return State("running elsewhere")
        record = {**known(cell), "identity": same, "seed": cell.seed}
        record.pop("why", None)
        try:
            if "final" not in record:
                _train(plan, cell, record, say)
            _evaluate(plan, cell, record, say)
        except Failed as failure:
            _note(cell, record, stage="failed", why=str(failure))
            return State("failed", str(failure))
    return State("finished")


def _train(plan: Plan, cell: Cell, record: dict[str, Any], say: Say) -> None:
    _note(cell, record, stage="training")
    checkpoint = newest_whole(cell.folder)
    say(f"training{f' from {checkpoint.name}' if checkpoint else ''}, log in {cell.folder / 'log.txt'}")
    words = [cell.variant.command, plan.recipe_file, *plan.training_overrides(cell)]
    words += ["--output-dir", str(cell.folder), "--seed", str(cell.seed)]
    words += ["--resume", str(checkpoint)] if checkpoint else []
    _call(plan, "training", words, cell.folder / "log.txt")
    try:
        digest = checkpoint_digest(cell.folder / "final")
    except AvstError as error:
        raise Failed(f"training ended well and left no weights: {error}") from error
    _note(cell, record, stage="trained", final=digest)


def _evaluate(plan: Plan, cell: Cell, record: dict[str, Any], say: Say) -> None:
    settings = evaluation(plan)
    if record.get("evaluated") == settings:
        _note(cell, record, stage="finished")
        return
    others = "evaluated" in record  # answers to other questions, or of other lengths
    _note(cell, record, stage="evaluating")
    say("evaluating")
    words = ["eval", plan.recipe_file, *plan.evaluation_overrides(cell)]
    words += ["--checkpoint", f"{ROW}={cell.folder / 'final'}", "--out", str(cell.folder / "eval")]
    words += ["--overwrite"] if others else []
    _call(plan, "evaluation", words, cell.folder / "log.txt")
    _note(cell, record, stage="finished", evaluated=settings)


def run_start(plan: Plan, say: Say) -> State:
    """Evaluate the model that all cells start from, or what is left of it."""
    folder = plan.out / "start"
    folder.mkdir(parents=True, exist_ok=True)
    with _lock(folder) as free:
        if not free:
            return State("running elsewhere")
        say("evaluating")
        path = plan.recipe.model.path
        words = ["eval", plan.recipe_file, *plan.overrides, "--checkpoint", f"{START}={path}", "--out", str(folder)]
        try:
            _call(plan, "evaluation", words, folder / "log.txt")
        except Failed as failure:
            return State("failed", str(failure))
    return State("finished")


def evaluation(plan: Plan) -> dict[str, Any]:
    """What the answers of a finished cell belong to, as far as the plan alone tells it."""
    recipe = plan.recipe
    files = [file for split in recipe.eval.splits for file in getattr(recipe.data, split)]
    settings = {"splits": recipe.eval.splits, "max_new_tokens": recipe.eval.max_new_tokens}
    return json_safe({**settings, "max_questions": recipe.eval.max_questions, "files": file_digests(files)})


def _note(cell: Cell, record: dict[str, Any], **values: Any) -> None:
    record.update(values)
    write_atomically(cell.folder / "cell.json", json.dumps(json_safe(record), indent=1, ensure_ascii=False) + "\n")


def _call(plan: Plan, what: str, words: Sequence[str], log: Path) -> None:
    """Run `avst …` to its end, all that it says into `log`. Raises Failed; ends the process if this one is ended."""
    command = [*(plan.launcher or (sys.executable,)), "-m", "avst", *words]
    with log.open("ab") as stream:
        shown = shlex.join(words_without_secrets(command))
        stream.write(f"\n---- {time.strftime('%Y-%m-%d %H:%M:%S')}  {shown}\n".encode())
        stream.flush()
        began = stream.tell()
        try:
            child = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        except OSError as error:
            raise Failed(f"{what} could not be started: {command[0]}: {error.strerror}") from error
        try:
            status = child.wait()
        except BaseException:
            child.terminate()
            child.wait()
            raise
    if status:
        how = f"status {status}" if status > 0 else f"signal {-status}"
        raise Failed(f"{what} ended with {how}{_last_words(log, began)} (log: {log})")


def _last_words(log: Path, began: int) -> str:
    with log.open("rb") as stream:
        stream.seek(max(began, os.fstat(stream.fileno()).st_size - 4000))
        lines = stream.read().decode("utf-8", "replace").split("\n")
    words = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f": {''.join(c if c.isprintable() else ' ' for c in words)[:300]}" if words else ""


@contextmanager
def _lock(folder: Path, look: bool = False) -> Iterator[bool]:
    """Whether nobody else is at work in this folder; on a file system without locks nobody is known to be.

    look: only look. Lookers keep nobody from looking, and a worker waits for them: their look lasts an instant.
    """
    file = folder / "lock"
    if look and not file.exists():
        yield True
        return
    with file.open("a") as stream:
        yield _locked(stream, look)


def _locked(stream: IO[str], look: bool) -> bool:
    for _ in range(1 if look else LOOKS):
        try:
            fcntl.flock(stream, (fcntl.LOCK_SH if look else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0 if look else LOOK_S)
        except OSError:
            break  # no locks here
        else:
            break
    else:
        return False
    return True
