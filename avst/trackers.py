"""The log lines of a run -> TensorBoard, trackio or wandb, after the fact: the same names, steps and clock times as
while it ran (`grpo.report_to`), where transformers' own callbacks write them.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from avst.errors import AvstError

# What says when a line was written rather than what was measured
WHEN = ("step", "elapsed_s", "time_s", "start", "max_steps")
# What is said once about a whole run: transformers gives it to wandb as a summary, to trackio not at all
ONCE = ("train_runtime", "train_samples_per_second", "train_steps_per_second", "train_loss", "total_flos")
EXTRA = {"trackio": "logging", "wandb": "logging"}  # tensorboard comes with avst


def require(names: Iterable[str]) -> None:
    """Raises AvstError for a tracker that is not installed, with the line that installs it."""
    for name in names:
        if name not in WRITERS:
            continue
        found = importlib.util.find_spec(name)
        if found is None or found.origin is None:  # wandb leaves a folder ./wandb, which is no package
            extra = f", or in avst's folder: pip install -e '.[{EXTRA[name]}]'" if name in EXTRA else ""
            raise AvstError(f"{name} is not installed: pip install {name}{extra}")


def named(figures: Mapping[str, Any]) -> dict[str, float]:
    """A log line's numbers under the names that transformers' callbacks give them: train/reward, eval/…, test/…"""
    found = {}
    for key, value in figures.items():
        if key in WHEN or isinstance(value, bool) or not isinstance(value, int | float):
            continue
        section, _, rest = key.partition("_")
        found[f"{section}/{rest}" if section in ("eval", "test") and rest else f"train/{key}"] = float(value)
    return found


def to_tensorboard(rows: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """An events file in `folder`. Raises AvstError where there are events already: all would stand there twice."""
    if any(folder.glob("events.out.tfevents.*")):
        raise AvstError(f"{folder}: holds events already; give another --dir, or delete it")
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    try:
        writer = EventFileWriter(str(folder))
    except OSError as error:
        raise AvstError(f"{folder}: the events cannot be written: {error}") from error
    for row in rows:
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in named(row).items()]
        writer.add_event(Event(wall_time=time_of(row), step=int(row["step"]), summary=Summary(value=values)))
    writer.close()


def to_trackio(rows: Sequence[Mapping[str, Any]], project: str, name: str, config: Mapping[str, Any]) -> None:
    """A run of a local trackio project. Raises AvstError where the project has a run of that name."""
    try:
        from trackio.sqlite_storage import SQLiteStorage  # its public log() takes no times
    except ImportError as error:
        raise AvstError(f"this version of trackio takes no times ({error}); versions from 0.43 on do") from error
    if name in SQLiteStorage.get_runs(project):
        raise AvstError(f"trackio: the project {project} has a run {name} already; give another --name")
    steps = [int(row["step"]) for row in rows]
    figures = [
        named({key: value for key, value in row.items() if key not in ONCE}) | {"train/global_step": step}
        for row, step in zip(rows, steps, strict=True)
    ]
    times = [datetime.fromtimestamp(time_of(row), UTC).isoformat() for row in rows]
    SQLiteStorage.bulk_log(project, name, figures, steps=steps, timestamps=times, config=dict(config))


def to_wandb(rows: Sequence[Mapping[str, Any]], project: str, name: str, config: Mapping[str, Any]) -> None:
    """A new run; where to, and with whose name, is as wandb is set up (WANDB_MODE=offline writes to ./wandb)."""
    import wandb

    try:
        run = wandb.init(project=project, name=name, config=dict(config))
        for row in rows:
            for key in ONCE:
                if key in row:
                    run.summary[key] = row[key]
            figures = named({key: value for key, value in row.items() if key not in ONCE})
            step = int(row["step"])
            if figures:
                run.log({**figures, "train/global_step": step, "_timestamp": time_of(row)}, step=step)
        run.finish()
    except (wandb.errors.Error, OSError) as error:
        raise AvstError(f"wandb: {' '.join(str(error).split())}") from error


def time_of(row: Mapping[str, Any]) -> float:
    """Seconds since 1970 at which the line was written; 0 where it does not say."""
    value = row.get("time_s")
    return float(value) if isinstance(value, int | float) else 0.0


WRITERS: dict[str, Callable[..., None]] = {"tensorboard": to_tensorboard, "trackio": to_trackio, "wandb": to_wandb}
