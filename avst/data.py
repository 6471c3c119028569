"""The training data as a torch data set: a question in, a prompt (or a counted skip) out; and the order of a run.

Decoding and the processor run where the data loader runs them, in its workers if it has any.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from torch.utils.data import Dataset, Sampler

from avst.errors import AvstError
from avst.hand_over import in_parcel
from avst.media import MediaError, MediaSettings, load_clip, probe, video_path
from avst.prompt import PromptBuilder, frame_size
from avst.types import Clip, Prompt, Question

logger = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Skipped:
    """A question that could not be asked, and why. It is counted and logged, and nothing takes its place.

    questions: how many stood in the row (all those of a clip, in supervised training).
    """

    question_id: str
    reason: str
    questions: int = 1


@dataclass(frozen=True, slots=True)
class Source:
    """Where clips come from and how they are shown.

    videos: the folder;  media: clock, cache, deadline, decoder;  bounds: min_pixels, max_pixels, total_pixels of
    qwen-vl-utils' resize rule (absent: the library's);  on_error: "raise" ends the run at the first bad file, "skip"
    counts it.
    """

    videos: Path
    media: MediaSettings = field(default_factory=MediaSettings)
    bounds: Mapping[str, int | None] = field(default_factory=dict)
    on_error: Literal["raise", "skip"] = "raise"

    def clip(self, question: Question) -> Clip:
        """The question's clip, resized for the model. MediaError names file and cause."""
        path = video_path(self.videos, question.video)
        info = probe(path, self.media.deadline_s)
        if info.n_frames == 1:
            raise MediaError(f"{path}: one frame is no video")
        if self.media.audio_rate is not None and not info.has_audio:
            raise MediaError(
                f"{path}: no audio track; media.audio=false asks for none, media.on_error=skip leaves it out"
            )
        return load_clip(path, replace(self.media, size=self.size(info.width, info.height, info.duration_s)))

    def size(self, width: int, height: int, duration_s: float) -> tuple[int, int]:
        """(width, height) in px of the frames that a model is shown of such a file."""
        n_frames = max(2, round(duration_s * self.media.fps))
        if self.media.max_frames is not None:
            n_frames = min(n_frames, self.media.max_frames)
        least, most, total = (self.bounds.get(name) for name in ("min_pixels", "max_pixels", "total_pixels"))
        return frame_size(width, height, n_frames, least, most, total)

    def try_clip(self, question: Question) -> Clip | Skipped:
        """The clip, or where the recipe says so a Skipped in its place."""
        return self.attempt(question, lambda: self.clip(question))

    def attempt(self, question: Question, make: Callable[[], T]) -> T | Skipped:
        """What `make` returns; a MediaError ends the run, or becomes a Skipped, as the recipe says. Where the whole
        folder is gone the run ends in either case: every clip would be skipped, and nothing learned."""
        try:
            return make()
        except MediaError as error:
            if self.on_error == "raise" or not self.videos.is_dir():
                raise MediaError(f"{question.id}: {error}") from error
            logger.warning("skipped %s: %s", question.id, error)
            return Skipped(question.id, str(error))


class PromptDataset(Dataset[Prompt | Skipped]):
    """questions[i] as a prompt, decoded when asked for."""

    def __init__(self, questions: Sequence[Question], builder: PromptBuilder, source: Source) -> None:
        self.questions, self.builder, self.source = list(questions), builder, source

    def __len__(self) -> int:
        return len(self.questions)

    def __getitem__(self, index: int) -> Prompt | Skipped:
        question = self.questions[index]
        return self.source.attempt(question, lambda: self.builder.build(question, self.source.clip(question)))


class ClipDataset(Dataset[list[Prompt] | Skipped]):
    """One row a clip: the prompts of all its questions, which share the clip's tensors (supervised training)."""

    def __init__(self, questions: Sequence[Question], builder: PromptBuilder, source: Source) -> None:
        by_video: dict[str, list[Question]] = {}
        for question in questions:
            by_video.setdefault(question.video, []).append(question)
        self.clips, self.builder, self.source = list(by_video.values()), builder, source

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> list[Prompt] | Skipped:
        questions = self.clips[index]
        first = questions[0]
        row = self.source.attempt(first, lambda: self.builder.build_all(questions, self.source.clip(first)))
        return replace(row, questions=len(questions)) if isinstance(row, Skipped) else row


class Kept(Dataset[Any]):
    """A data set whose rows stay in memory once made: for sets that fit, in the process that made them."""

    def __init__(self, rows: Any) -> None:
        self.rows = rows
        self.kept: dict[int, Any] = {}

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        if index not in self.kept:
            self.kept[index] = self.rows[index]
        row = self.kept[index]
        if isinstance(row, list):
            return [replace(prompt, features={}) for prompt in row]
        # what frozen towers make of a clip belongs to one step: kept with the row it would fill the device
        return replace(row, features={}) if isinstance(row, Prompt) else row


class StepSampler(Sampler[tuple[int, int]]):
    """The order of a run: (row, iteration). Every optimizer step's rows come num_iterations times in a row, so that the
    answers drawn at iteration 0 serve them all.

    n: rows;  rows_per_step: prompts of one optimizer step over all processes;  rows that do not fill a last step are
    left out of that epoch (another shuffle leaves out others). `epoch` is set by the trainer; the order depends on
    (seed, epoch) alone.
    """

    def __init__(self, n: int, rows_per_step: int, num_iterations: int, shuffle: bool, seed: int) -> None:
        if n < rows_per_step:
            raise AvstError(
                f"an optimizer step takes {rows_per_step} questions (prompts a device x devices x accumulation steps), "
                f"the training set has {n}"
            )
        self.n, self.rows_per_step, self.num_iterations = n, rows_per_step, num_iterations
        self.shuffle, self.seed, self.epoch = shuffle, seed, 0
        if left := n % rows_per_step:
            logger.warning("%d of %d rows are left out of each epoch: steps take %d", left, n, rows_per_step)

    def __len__(self) -> int:
        return self.n // self.rows_per_step * self.rows_per_step * self.num_iterations

    def _order(self, epoch: int) -> list[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        return torch.randperm(self.n, generator=generator).tolist() if self.shuffle else list(range(self.n))

    def rows_at(self, step: int) -> list[int]:
        """The rows of optimizer step `step` of a run (0 is the first), over all processes."""
        epoch, within = divmod(step, len(self) // self.rows_per_step)
        start = within // self.num_iterations * self.rows_per_step
        return self._order(epoch)[start : start + self.rows_per_step]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = self._order(self.epoch)
        for start in range(0, self.n - self.rows_per_step + 1, self.rows_per_step):
            for iteration in range(self.num_iterations):
                for row in order[start : start + self.rows_per_step]:
                    yield row, iteration


class Reused:
    """Stands for a row whose answers were drawn at an earlier iteration; nothing is decoded for it again."""


class StepRows(Dataset[Any]):
    """The data set as the StepSampler asks for it; in a loader's workers each row in a Parcel (avst.hand_over)."""

    def __init__(self, rows: Any) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: tuple[int, int]) -> Any:
        row, iteration = key
        return in_parcel(lambda: self.rows[row]) if iteration == 0 else Reused()


def draws_apart(loader: Any) -> Any:
    """The loader itself, its workers' seeds drawn from a generator of its own.

    torch draws them from the global one, each epoch or once a run: the number of workers would change every answer.
    """
    getattr(loader, "base_dataloader", loader).generator = torch.Generator().manual_seed(0)
    return loader
