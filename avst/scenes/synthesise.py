"""A folder of synthetic clips with their questions: what `avst synth OUT` does."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avst.errors import AvstError
from avst.scenes.encode import write_clip
from avst.scenes.folder import OnDone, open_folder, render_all, write_annotations
from avst.scenes.plan import plan_scene
from avst.scenes.questions import annotate
from avst.scenes.render import scene_frames
from avst.scenes.settings import SceneSettings, check_settings
from avst.scenes.sound import render_audio

FORMAT = 1  # raise it when equal settings and seeds begin to give other clips


@dataclass(frozen=True, slots=True)
class Synthesised:
    """What was written. annotations: split -> file; videos: the clips' folder; n_clips, n_questions: split -> count.

    Example: Synthesised({"train": Path("o/annotations_train.json")}, Path("o/videos"), {"train": 9}, {"train": 27}, 1)
    """

    annotations: dict[str, Path]
    videos: Path
    n_clips: dict[str, int]
    n_questions: dict[str, int]
    seconds: float


@dataclass(frozen=True, slots=True)
class _Job:
    path: Path
    settings: SceneSettings
    seed: int
    index: int


def render_clip(job: _Job) -> None:
    """Plans and writes one clip."""
    scene = plan_scene(job.settings, job.seed, job.index)
    cues = [(actor.thing.name, actor.sound) for actor in scene.actors if actor.sound is not None]
    rate = job.settings.audio_rate
    audio = render_audio(cues, scene.duration_s, rate, scene.noise, scene.seed)
    write_clip(job.path, scene_frames(scene), scene.fps, scene.size, audio, rate, job.settings.encoder_preset)


def synthesise(
    out: str | Path,
    n: int,
    seed: int,
    settings: SceneSettings,
    n_eval: int | None = None,
    workers: int = 1,
    overwrite: bool = False,
    on_done: OnDone | None = None,
) -> Synthesised:
    """Writes n clips into out/videos and out/annotations_train.json and _eval.json (the last n_eval clips).

    n_eval: a fifth of n by default, at least one where there are two.  Clip i depends on (settings, seed, i) alone, so
    a longer set begins with the shorter one. Raises AvstError for settings, a folder or a clip that will not do; the
    clips and annotations of what was written before stay, and the same call again goes on from there.
    """
    check_settings(settings)
    if n_eval is None:
        n_eval = max(n // 5, 1) if n > 1 else 0
    if n < 1 or seed < 0 or not 0 <= n_eval <= n:
        raise AvstError(f"synth: wants n >= 1, seed >= 0 and 0 <= eval <= n, not n {n}, seed {seed}, eval {n_eval}")
    began, out = time.perf_counter(), Path(out)
    videos = open_folder(out, {"format": FORMAT, "seed": seed, "settings": settings.as_json()}, overwrite)
    entries = [_entry(settings, seed, index) for index in range(n)]
    jobs = [_Job(videos / f"{entry['video_name']}.mp4", settings, seed, i) for i, entry in enumerate(entries)]
    done = {job.index for job in jobs if job.path.exists()}
    try:
        for job in render_all(render_clip, [job for job in jobs if job.index not in done], workers, on_done):
            done.add(job.index)
    finally:
        splits = {"train": range(n - n_eval), "eval": range(n - n_eval, n)}
        kept = {split: [entries[i] for i in indices if i in done] for split, indices in splits.items()}
        files = {split: out / f"annotations_{split}.json" for split in splits}
        for split, file in files.items():
            write_annotations(file, kept[split])
    counts = {split: sum(count_questions(entry) for entry in kept[split]) for split in splits}
    n_clips = {split: len(kept[split]) for split in splits}
    return Synthesised(files, videos, n_clips, counts, time.perf_counter() - began)


def count_questions(entry: dict[str, Any]) -> int:
    """Questions of one video's entry."""
    return sum(len(items) for event in entry["annotation"] for items in event.values() if isinstance(items, list))


def _entry(settings: SceneSettings, seed: int, index: int) -> dict[str, Any]:
    scene = plan_scene(settings, seed, index)
    return annotate(scene, settings.tasks, settings.wording, settings.questions_per_clip)
