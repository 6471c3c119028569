"""Clips for annotations that exist already, so that real questions can be run without their videos.

At scale 1 the annotation file is copied as it is. At a smaller scale the frames shrink, so the boxes, which are in
pixels of the source, are rewritten to match: always use OUT/annotations.json with OUT/videos.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from avst.errors import AvstError
from avst.scenes.annotated import even, frame_size, moving_objects, sounding
from avst.scenes.encode import write_clip
from avst.scenes.folder import OnDone, open_folder, render_all, write_annotations, write_whole
from avst.scenes.motion import frame_count
from avst.scenes.questions import number
from avst.scenes.render import draw_frames
from avst.scenes.settings import AUDIO_RATES, parse_fps
from avst.scenes.sound import render_audio
from avst.scenes.synthesise import Synthesised
from avst.scenes.world import Look
from avst.tasks.r_avst import load_annotations
from avst.types import Question

FORMAT = 1
LONGEST_S = 3600


@dataclass(frozen=True, slots=True)
class AnnotatedSettings:
    """fps: as text.  scale: of the inferred source size; max_side: of the longer side, px (both at once: the smaller).

    seed: of backgrounds.  noise: 0 to 1.
    """

    fps: str = "4"
    scale: float = 1.0
    max_side: int | None = None
    audio_rate: int = 16000
    noise: float = 0.0
    seed: int = 0

    def check(self) -> None:
        """Raises AvstError for a value out of range."""
        parse_fps(self.fps)
        if not 0 < self.scale <= 1:
            raise AvstError(f"synth: scale wants more than 0 and at most 1, not {self.scale}")
        if self.max_side is not None and self.max_side < 32:
            raise AvstError(f"synth: max-side wants at least 32 px, not {self.max_side}")
        if self.audio_rate not in AUDIO_RATES:
            raise AvstError(f"synth: audio-rate wants one of {', '.join(map(str, AUDIO_RATES))}, not {self.audio_rate}")
        if not 0 <= self.noise <= 1 or self.seed < 0:
            raise AvstError(f"synth: noise wants 0 to 1 and seed 0 or more, not {self.noise} and {self.seed}")


@dataclass(frozen=True, slots=True)
class _Job:
    path: Path
    video: str
    questions: tuple[Question, ...]
    source: tuple[int, int]
    size: tuple[int, int]
    settings: AnnotatedSettings


def render_annotated(job: _Job) -> None:
    """Writes the clip of one video's questions."""
    s, fps = job.settings, parse_fps(job.settings.fps)
    duration = job.questions[0].duration_s
    seed = (s.seed, *hashlib.sha256(job.video.encode("utf-8")).digest()[:8])
    audio = render_audio(sounding(job.questions), duration, s.audio_rate, s.noise, seed)
    shapes = _shapes(job, fps, frame_count(duration, fps))
    write_clip(job.path, draw_frames(shapes, job.size, s.noise, seed), fps, job.size, audio, s.audio_rate)


def _shapes(job: _Job, fps: Fraction, n_frames: int) -> Iterator[list[tuple[Look, np.ndarray]]]:
    """Frame by frame what to draw, large things first so that they do not hide small ones."""
    objects = moving_objects(job.questions)
    ratio = np.array([job.size[0] / job.source[0], job.size[1] / job.source[1]] * 2)
    for index in range(n_frames):
        shown = [(o.look, _pixels(box * ratio)) for o in objects for box in o.at_frame(index, fps)]
        yield sorted(shown, key=lambda entry: -int(np.prod(entry[1][2:] - entry[1][:2])))


def _pixels(box: np.ndarray) -> np.ndarray:
    """A box on whole pixels, at least two wide and high: smaller ones would be lost in the encoder."""
    rounded = np.rint(box).astype(np.int64)
    return np.concatenate([rounded[:2], np.maximum(rounded[2:], rounded[:2] + 2)])


def render_annotations(
    file: str | Path,
    out: str | Path,
    settings: AnnotatedSettings | None = None,
    workers: int = 1,
    overwrite: bool = False,
    on_done: OnDone | None = None,
) -> Synthesised:
    """Writes a clip per video of an R-AVST file into out/videos, and out/annotations.json that goes with them.

    Raises AvstError for a file that load_annotations refuses, or settings, a folder or a clip that will not do; clips
    written before stay, and the same call again goes on from there.
    """
    settings = settings or AnnotatedSettings()
    settings.check()
    began, out, file = time.perf_counter(), Path(out), Path(file)
    by_video: dict[str, list[Question]] = {}
    for question in load_annotations(file):
        by_video.setdefault(question.video, []).append(question)
    text = file.read_bytes().decode("utf-8-sig")
    digest = hashlib.sha256(text.encode("utf-8")).hexdigest()
    options = {"fps": settings.fps, "scale": settings.scale, "max_side": settings.max_side}
    options |= {"audio_rate": settings.audio_rate, "noise": settings.noise, "seed": settings.seed}
    videos = open_folder(out, {"format": FORMAT, "annotations_sha256": digest, "options": options}, overwrite)
    jobs = [_job(videos, video, questions, settings, file) for video, questions in by_video.items()]
    done = {job.video for job in jobs if job.path.exists()}
    try:
        for job in render_all(render_annotated, [j for j in jobs if j.video not in done], workers, on_done):
            done.add(job.video)
    finally:
        whole = all(job.video in done and job.size == job.source for job in jobs)
        if whole:
            write_whole(out / "annotations.json", text)
        else:
            sizes = {job.video: (job.source, job.size) for job in jobs if job.video in done}
            write_annotations(out / "annotations.json", list(rescaled(json.loads(text), sizes)))
    n_questions = sum(len(questions) for questions in by_video.values())
    seconds = time.perf_counter() - began
    return Synthesised({"all": out / "annotations.json"}, videos, {"all": len(jobs)}, {"all": n_questions}, seconds)


def _job(videos: Path, video: str, questions: list[Question], settings: AnnotatedSettings, file: Path) -> _Job:
    if Path(video).name != video or "\\" in video or len(video.encode("utf-8")) > 200:
        raise AvstError(f'{file}: {video[:80]}: field "video_name": must be a plain file name')
    if questions[0].duration_s > LONGEST_S:
        raise AvstError(f'{file}: {video}: field "duration": {questions[0].duration_s:g} s is over {LONGEST_S} s')
    source = frame_size(questions, str(file))
    scale = settings.scale
    if settings.max_side is not None:
        scale = min(scale, settings.max_side / max(source))
    size = source if scale >= 1 else (even(source[0] * scale), even(source[1] * scale))
    return _Job(videos / f"{video}.mp4", video, tuple(questions), source, size, settings)


def rescaled(
    data: list[dict[str, Any]], sizes: dict[str, tuple[tuple[int, int], tuple[int, int]]]
) -> Iterator[dict[str, Any]]:
    """The entries of the videos in sizes (name -> (source, new) frame size), boxes in the new frame's pixels."""
    for entry in data:
        if entry["video_name"] not in sizes:
            continue
        source, size = sizes[entry["video_name"]]
        ratio = (size[0] / source[0], size[1] / source[1])
        yield entry | {"annotation": [_rescaled_event(event, ratio) for event in entry["annotation"]]}


def _rescaled_event(event: dict[str, Any], ratio: tuple[float, float]) -> dict[str, Any]:
    def answered(items: Any) -> Any:
        if not isinstance(items, list):
            return items
        return [item | {"A": "\n".join(rescale_line(line, ratio) for line in item["A"].split("\n"))} for item in items]

    return {key: answered(value) for key, value in event.items()}


def rescale_line(line: str, ratio: tuple[float, float]) -> str:
    """A line `t: [x1, y1, x2, y2]` with its box multiplied, to a tenth of a pixel, never flat; others unchanged.

    rescale_line("2.0: [100.0, 60.0, 200.0, 120.0]", (0.5, 0.25)) == "2.0: [50.0, 15.0, 100.0, 30.0]"
    """
    time_text, colon, rest = line.partition(":")
    rest = rest.strip()
    if not (colon and rest.startswith("[") and rest.endswith("]")):
        return line
    try:
        x1, y1, x2, y2 = (float(part) for part in rest[1:-1].split(","))
    except ValueError:
        return line
    new = [round(x1 * ratio[0], 1), round(y1 * ratio[1], 1), round(x2 * ratio[0], 1), round(y2 * ratio[1], 1)]
    if x1 < x2 and y1 < y2:
        new[2:] = [max(new[2], round(new[0] + 0.1, 1)), max(new[3], round(new[1] + 0.1, 1))]
    return f"{time_text.strip()}: [{', '.join(number(v) for v in new)}]"
