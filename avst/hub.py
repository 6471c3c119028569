"""Pushing to the Hub: a network that is down is said, and ends no run. What was not pushed stays on the disk.

At the start it is a mistake, though: the repository must be there, or a run of days would push nothing.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any

from transformers import Trainer

from avst.errors import AvstError

logger = logging.getLogger(__name__)


class HubTrainer(Trainer):
    """A Trainer whose pushes may fail. The token goes into the environment, where the Hub's client looks for it: the
    arguments are saved beside every checkpoint, and pushed with it."""

    def __init__(self, *args: Any, **options: Any) -> None:
        given = options.get("args")
        if given is not None and given.hub_token:
            os.environ["HF_TOKEN"], given.hub_token = given.hub_token, None
        super().__init__(*args, **options)

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        try:
            super().init_hf_repo(token=token, private=private)
        except Exception as error:  # the Hub's client raises its own errors, those of its HTTP library, and OSErrors
            raise AvstError(
                f"push_to_hub: the repository {self.args.hub_model_id or ''} cannot be reached or made: {_line(error)}"
            ) from error

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        self._tell_of_failed_pushes()
        self._or_say(lambda: super(HubTrainer, self)._push_from_checkpoint(checkpoint_folder), checkpoint_folder)

    def _finish_current_push(self) -> None:
        super()._finish_current_push()
        self._tell_of_failed_pushes()

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        super().save_model(output_dir, _internal_call=True)
        if self.args.push_to_hub and not _internal_call:
            push = lambda: self.push_to_hub(commit_message="Model save", revision=self.args.hub_revision)  # noqa: E731
            self._or_say(push, output_dir or self.args.output_dir or ".")

    def _tell_of_failed_pushes(self) -> None:
        """Pushes run beside the training; what became of the last ones is looked up here."""
        push = getattr(self, "push_in_progress", None)
        if push is None or not push.is_done():
            return
        for job in push.jobs:
            if (error := job.exception()) is not None:
                _say(error, str(self.args.output_dir))
        self.push_in_progress = None

    def _or_say(self, push: Callable[[], Any], folder: str) -> None:
        try:
            push()
        except Exception as error:  # see init_hf_repo
            _say(error, folder)


def _say(error: BaseException, folder: str) -> None:
    logger.warning("not pushed to the Hub (%s); %s is kept, and training goes on", _line(error), folder)


def _line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
