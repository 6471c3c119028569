"""What only records a run never ends it: trackers, saved answers. A failure is said once, and training goes on.

metrics.jsonl has all that a tracker would have been told, and `avst log` sends it afterwards.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from transformers import Trainer, TrainerCallback

logger = logging.getLogger(__name__)

PATIENCE = 3  # failures in a row, then a tracker is left alone: each may wait long for a network that is down


def forgive_trackers(trainer: Trainer) -> None:
    """The library's own loggers (`report_to`) may fail as they like."""
    for callback in trainer.callback_handler.callbacks:
        if type(callback).__module__.startswith("transformers.integrations"):
            forgive(callback)


def forgive(callback: TrainerCallback) -> None:
    """Replace the callback's events by ones that raise nothing."""
    name = type(callback).__name__.removesuffix("Callback")
    failures = 0

    def guarded(act: Callable[..., Any]) -> Callable[..., Any]:
        def event(*args: Any, **kwargs: Any) -> Any:
            nonlocal failures
            if failures == PATIENCE:
                return None
            try:
                result = act(*args, **kwargs)
            except Exception as error:  # another project's code, and whatever its network does
                failures += 1
                _say_of_tracker(name, error, failures)
                return None
            if act.__name__ == "on_log":
                failures = 0
            return result

        return event

    for event in [word for word in dir(callback) if word.startswith("on_")]:
        setattr(callback, event, guarded(getattr(callback, event)))


def _say_of_tracker(name: str, error: Exception, failures: int) -> None:
    words = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    if failures == 1:
        logger.warning("%s failed (%s); training goes on, metrics.jsonl has every figure", name, words)
    elif failures == PATIENCE:
        logger.warning("%s failed %d times and is left alone; `avst log RUN` sends the run afterwards", name, failures)


def forgiving_sink(write: Callable[[int, list[dict[str, Any]]], object]) -> Callable[[int, list[dict[str, Any]]], None]:
    """The same sink for completions, that passes over what the disk will not take."""
    said = False

    def sink(step: int, rows: list[dict[str, Any]]) -> None:
        nonlocal said
        try:
            write(step, rows)
        except OSError as error:
            if not said:
                logger.warning("the answers of step %d cannot be saved (%s); training goes on", step, error)
            said = True

    return sink
