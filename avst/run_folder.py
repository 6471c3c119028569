"""What a run leaves on disk, so that it can be understood, repeated and continued:

    recipe.yaml          the resolved recipe
    run.json             every start: command line, versions, git state, seeds
    metrics.jsonl        one JSON object a log line, flushed; NaN and inf are written as null
    completions/         step_000010.parquet: every answer of the step with its rewards
    checkpoint-*/        written by the Trainer

Whole files are replaced atomically, lines are only appended: what was written survives a crash.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from avst.config import Recipe, recipe_values
from avst.config.yaml_file import read_yaml
from avst.durable import append_line, json_safe, read_lines, replacing, write_atomically
from avst.errors import AvstError
from avst.failures import keep_tracebacks_in
from avst.provenance import git_state, versions
from avst.secrets import BLOT, words_without_secrets

SECRETS = ("hub_token",)
COUNTS = ("step", "elapsed_s", "max_steps", "start")  # of a log line
OWN = ("run.json", "recipe.yaml", "metrics.jsonl", "completions")


class RunFolder:
    """The folder of one run. `open` it on the main process; other processes may read from it."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.start_index = 0  # which start of the run this is, counted from 0; every metrics line carries it

    @classmethod
    def open(
        cls,
        recipe: Recipe,
        command: str,
        *,
        overwrite: bool = False,
        argv: Sequence[str] | None = None,
        checkpoint: str | Path | None = None,
        allow_changes: bool = False,
    ) -> RunFolder:
        """The recipe's output folder, made or continued.

        The same command with the same recipe continues a run. Another one is refused with an AvstError that names what
        differs, or, with `overwrite`, deletes the earlier run whole. checkpoint: what the run starts from in place of
        the recipe's model.path;  allow_changes: continue with another recipe.
        """
        folder = cls(recipe.output_dir)
        values = masked(recipe_values(recipe))
        starts = folder._earlier(command, values, overwrite, allow_changes)
        try:
            folder.path.mkdir(parents=True, exist_ok=True)
            write_atomically(folder.path / "recipe.yaml", yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
            folder.start_index = len(starts)
            start = _start(command, recipe, sys.argv if argv is None else argv)
            start["model"] = None if checkpoint is None else str(checkpoint)
            record = {"command": command, "name": recipe.name, "starts": [*starts, start]}
            write_atomically(
                folder.path / "run.json", json.dumps(json_safe(record), indent=2, ensure_ascii=False) + "\n"
            )
        except OSError as error:
            raise AvstError(f"{folder.path}: the run's folder cannot be written: {error}") from error
        keep_tracebacks_in(folder.path)
        return folder

    def log(self, row: Mapping[str, Any]) -> None:
        """Append one line to metrics.jsonl."""
        append_line(self.path / "metrics.jsonl", {**row, "start": self.start_index})

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl in order, without those that a continued run did again."""
        return counted(list(read_lines(self.path / "metrics.jsonl")))

    def write_completions(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Save the answers of a step; a step that is done again after a crash replaces its file.

        rows: one mapping a completion (avst.step_log.completion_rows); `rewards`, name -> float or None, becomes a
        column `reward_<name>` each.
        """
        import pyarrow.parquet

        table = _table([_flat(row) for row in rows])
        path = self.path / "completions" / f"step_{step:06d}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            pyarrow.parquet.write_table(table, temporary)

    def completion_files(self) -> list[Path]:
        """A file a step, in order."""
        return sorted((self.path / "completions").glob("step_*.parquet"))

    def completions(self) -> Iterator[dict[str, Any]]:
        """All saved completions, step by step."""
        for path in self.completion_files():
            yield from read_completions(path)

    def _earlier(
        self, command: str, values: dict[str, Any], overwrite: bool, allow_changes: bool
    ) -> list[dict[str, Any]]:
        """The earlier starts of the same run; [] where there are none."""
        if self.path.exists() and not self.path.is_dir():
            raise AvstError(f"{self.path}: the output folder is a file")
        found = [name for name in OWN if (self.path / name).exists()]
        if not found:
            return []
        if overwrite:
            self._delete()
            return []
        try:
            record = json.loads((self.path / "run.json").read_text(encoding="utf-8"))
            earlier = read_yaml(self.path / "recipe.yaml")[0]
            starts, earlier_command = list(record["starts"]), record["command"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError, AvstError) as error:
            raise AvstError(
                f"{self.path}: holds {', '.join(found)} of a run that cannot be read ({error}); choose another "
                "--output-dir, or delete the earlier run with --overwrite"
            ) from error
        different = [] if allow_changes else differences(earlier, values)
        if earlier_command != command:
            different.insert(0, f"it was made by `avst {earlier_command}`")
        if different:
            shown = "; ".join(different[:5]) + (f"; and {len(different) - 5} more" if len(different) > 5 else "")
            raise AvstError(
                f"{self.path}: holds another run: {shown}; choose another --output-dir, or delete the earlier run with "
                "--overwrite"
            )
        return starts

    def _delete(self) -> None:
        here = self.path.resolve()
        if here in (Path.home().resolve(), *Path.cwd().resolve().parents, Path.cwd().resolve()):
            raise AvstError(f"{self.path}: --overwrite will not delete a folder that holds the working folder")
        if not (here / "run.json").is_file():
            raise AvstError(f"{self.path}: --overwrite deletes runs of avst only, and there is no run.json here")
        for child in here.iterdir():  # the folder itself may be a mount or a link
            if child.is_dir() and not child.is_symlink():
                shutil.rmtree(child)
            else:
                child.unlink()


def read_completions(file: Path) -> list[dict[str, Any]]:
    """The rows of one step's file. Raises OSError or ValueError (pyarrow's own are ValueErrors)."""
    import pyarrow.parquet

    return pyarrow.parquet.read_table(file).to_pylist()


def counted(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The log lines that count. A run that died at step 57 and went on from the checkpoint of step 50 logs 51–57 twice:
    the later ones count. A line whose step or time is no number is none of avst's."""
    rows = [row for row in rows if all(isinstance(row.get(key), int | float | None) for key in COUNTS)]
    first: dict[int, float] = {}
    for row in rows:
        if (step := row.get("step")) is not None:
            start = row.get("start", 0)
            first[start] = min(step, first.get(start, math.inf))
    return [
        row
        for row in rows
        if all(row.get("step", -1) < step for start, step in first.items() if start > row.get("start", 0))
    ]


def differences(earlier: Any, now: Any, prefix: str = "") -> list[str]:
    """What two recipes disagree on. Example: ["grpo.beta is 0.04 there and 0.0 here"]."""
    if isinstance(earlier, dict) and isinstance(now, dict):
        found = []
        for key in [*earlier, *(k for k in now if k not in earlier)]:
            found += differences(earlier.get(key), now.get(key), f"{prefix}.{key}" if prefix else str(key))
        return found
    return [] if earlier == now else [f"{prefix} is {json.dumps(earlier)} there and {json.dumps(now)} here"]


def masked(values: dict[str, Any]) -> dict[str, Any]:
    """The same values with credentials blotted out: a run's folder is made to be shared."""
    return {
        key: masked(v) if isinstance(v, dict) else BLOT if key in SECRETS and v is not None else v
        for key, v in values.items()
    }


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    rewards = {f"reward_{name}": value for name, value in row.get("rewards", {}).items()}
    return json_safe({key: value for key, value in row.items() if key != "rewards"} | rewards)


def _table(rows: Sequence[Mapping[str, Any]]) -> Any:
    """A pyarrow table. A column of numbers stays one where a step has none, so that all parts can be read as one."""
    import pyarrow

    names = dict.fromkeys(name for row in rows for name in row)
    types = {"total": pyarrow.float64(), "advantage": pyarrow.float64()}
    columns = {}
    for name in names:
        values = [row.get(name) for row in rows]
        columns[name] = pyarrow.array(values, pyarrow.float64() if name.startswith("reward_") else types.get(name))
    return pyarrow.table(columns)


def _start(command: str, recipe: Recipe, argv: Sequence[str]) -> dict[str, Any]:
    seeds = {"seed": recipe.seed} | {
        section: values["data_seed"]
        for section, values in (("grpo.data_seed", recipe.grpo), ("sft.data_seed", recipe.sft))
        if "data_seed" in values
    }
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": command,
        "argv": words_without_secrets(list(argv)),
        "folder": str(Path.cwd()),  # paths in recipes may be relative to it
        "processes": int(os.environ.get("WORLD_SIZE", "1")),
        "seeds": seeds,
        "versions": versions(),
        "git": git_state(),
    }
