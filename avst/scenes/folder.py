"""A folder of clips: written one by one, none lost when a later one fails, the same whatever the number of workers.

OUT/videos/<name>.mp4   each moved into place when whole
OUT/annotations….json   always of exactly the clips that are there
OUT/scenes.json         how the folder was made; a second call with the same recipe keeps the clips that are there
"""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any, TypeVar

from avst.errors import AvstError

Job = TypeVar("Job")
OnDone = Callable[[int, int], None]
"""on_done(clips done, clips in all), after each clip."""
RECIPE_FILE = "scenes.json"


def open_folder(out: Path, recipe: dict[str, Any], overwrite: bool) -> Path:
    """Makes OUT/videos and notes the recipe; returns the videos' folder.

    Raises AvstError if the folder holds clips of another recipe, unless overwrite, which removes those of that recipe.
    """
    videos, noted = out / "videos", out / RECIPE_FILE
    try:
        clips = sorted(videos.glob("**/*.mp4")) if videos.is_dir() else []
        if clips and not noted.exists():
            raise AvstError(f"{videos}: holds videos that avst synth did not write; choose another folder")
        if clips and json.loads(noted.read_text("utf-8")) != recipe:
            if not overwrite:
                raise AvstError(f"{noted}: the folder holds clips made otherwise; choose another one or --overwrite")
            for clip in clips:
                clip.unlink()
        videos.mkdir(parents=True, exist_ok=True)
        write_whole(noted, json.dumps(recipe, indent=1) + "\n")
    except OSError as error:
        raise AvstError(f"{error.filename or out}: {error.strerror}") from error
    except json.JSONDecodeError as error:
        raise AvstError(f"{noted}: broken JSON: {error}; choose another folder") from error
    return videos


def write_whole(path: Path, text: str) -> None:
    """Writes a text file beside its place and moves it there, so that it is never seen half written."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        unfinished.write_text(text, encoding="utf-8")
        os.replace(unfinished, path)
    except OSError as error:
        raise AvstError(f"{path}: cannot be written: {error.strerror}") from error
    finally:
        unfinished.unlink(missing_ok=True)


def write_annotations(path: Path, entries: Sequence[dict[str, Any]]) -> None:
    """An R-AVST file: a JSON list of videos, one a line."""
    lines = ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in entries)
    write_whole(path, f"[\n{lines}\n]\n")


def render_all(
    render: Callable[[Job], None], jobs: Sequence[Job], workers: int, on_done: OnDone | None = None
) -> Iterator[Job]:
    """Yields each job once its clip is written. The first error is raised after the clips under way are finished.

    render must be importable by name and jobs picklable where workers > 1 (processes are spawned, not forked: the
    caller may hold threads, and a fork would copy their locks).
    """
    for n_done, job in enumerate(_in_process(render, jobs) if workers <= 1 else _in_pool(render, jobs, workers), 1):
        if on_done is not None:
            on_done(n_done, len(jobs))
        yield job


def _in_process(render: Callable[[Job], None], jobs: Sequence[Job]) -> Iterator[Job]:
    for job in jobs:
        render(job)
        yield job


def _in_pool(render: Callable[[Job], None], jobs: Sequence[Job], workers: int) -> Iterator[Job]:
    """Keeps a few jobs per worker in flight, so that an error stops the rest soon."""
    waiting, failed = iter(jobs), None
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, max(1, len(jobs))), mp_context=context) as pool:
        flying: dict[Future[None], Job] = {}
        while True:
            while failed is None and len(flying) < 2 * workers and (job := next(waiting, None)) is not None:
                flying[pool.submit(render, job)] = job
            if not flying:
                break
            for future in wait(flying, return_when=FIRST_COMPLETED).done:
                job = flying.pop(future)
                error = future.exception()
                if error is None:
                    yield job
                else:
                    failed = failed or error
    if failed is not None:
        raise failed
