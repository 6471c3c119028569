"""Media: decoding against other libraries, the clip cache, overlap with the step, memory of the loader's workers.

Decoding. One film of 40 s, 480x360 at 30 frames a second, H.264 and AAC (scripts/bench/media_files.py), sampled at 2
frames a second at its own size: avst.media.load_clip without a cache, its worker process and pipes included, by turns
with decord, torchcodec and qwen-vl-utils in this process. The file is in the page cache, all decode with the same
number of threads (qwen-vl-utils gives decord as many as it likes), torch has one. Picture only against picture only;
avst with sound is shown beside it. decord and torchcodec are optional (the extra `decoders`): run this with the Python
of an environment that has them; what is not installed is listed. Then the same with the resize that the model wants:
load_clip(size) against qwen-vl-utils' fetch_video.

Cache. An epoch over several films, decoded and from the cache, every byte touched. Warm: the process has verified the
checksums before; first: it has not.

Overlap and memory: scripts/bench/media_loader.py.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from avst.media import MediaSettings, cache, close_workers, digest, load_clip, probe
from avst.prompt import frame_size
from scripts.bench import media_loader
from scripts.bench.figure import Figure
from scripts.bench.media_decoders import others, whole_qwen
from scripts.bench.media_files import copies, write_film
from scripts.bench.timing import by_turns, medians, ratio

GROUP = "media"
FPS, FILM_FPS = 2.0, 30


@dataclass(frozen=True, slots=True)
class Sizes:
    """seconds: of the film;  clips: in an epoch."""

    seconds: float = 40.0
    size: tuple[int, int] = (480, 360)
    repeats: int = 9
    clips: int = 4
    epochs: int = 3


QUICK = Sizes(seconds=4.0, repeats=2, clips=2, epochs=2)


def run(quick: bool) -> list[Figure]:
    sizes = QUICK if quick else Sizes()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            film = write_film(folder / "film.mp4", sizes.seconds, sizes.size, FILM_FPS)
            figures = decoding(film, sizes) + cached(film, folder, sizes)
            return figures + media_loader.figures(folder, quick)
    finally:
        torch.set_num_threads(threads)


def decoding(film: Path, sizes: Sizes) -> list[Figure]:
    """Seconds of a clip, and how much longer the best of the others takes."""
    threads = max(1, min(4, os.cpu_count() or 1))
    close_workers()  # the next one is started with these threads
    kept = os.environ.get("AVST_DECODER_THREADS")
    os.environ["AVST_DECODER_THREADS"] = str(threads)
    try:
        return _decoding(film, sizes, threads)
    finally:
        if kept is None:
            del os.environ["AVST_DECODER_THREADS"]
        else:
            os.environ["AVST_DECODER_THREADS"] = kept
        close_workers()


def _decoding(film: Path, sizes: Sizes, threads: int) -> list[Figure]:
    found, missing = others(FILM_FPS, threads)
    picture, with_sound = MediaSettings(fps=FPS, audio_rate=None), MediaSettings(fps=FPS)
    arms: dict[str, Callable[[], Any]] = {
        "avst": lambda: load_clip(film, picture),
        "avst with sound": lambda: load_clip(film, with_sound),
        **{name: lambda decode=decode: decode(film, FPS) for name, decode in found.items()},  # type: ignore[misc]
    }
    frames = load_clip(film, picture).frames
    agreement = {name: agrees(frames, decode(film, FPS)) for name, decode in found.items()}
    seconds = by_turns(arms, sizes.repeats)
    middle = medians(seconds)
    how = {
        "seconds": seconds,
        "medians": middle,
        "sizes": asdict(sizes),
        "threads": threads,
        "file_mb": film.stat().st_size / 1e6,
        "frames": list(frames.shape),
        "frames_compared": agreement,
        "not_installed": missing,
    }
    title = f"decode {sizes.seconds:g} s at {FPS:g} fps"
    figures = [
        Figure(GROUP, f"{title}, picture", middle["avst"], "s", how=how),
        Figure(GROUP, f"{title}, picture and sound", middle["avst with sound"], "s", how=how),
    ]
    if found:
        best = min(found, key=lambda name: middle[name])
        figures.append(
            Figure(GROUP, f"{title}: best other ({best}) / avst", ratio(seconds, best, "avst"), "x", ">= 1", how)
        )
        figures.append(_resized(film, sizes))
    else:
        figures.append(Figure(GROUP, "decoders to compare with: none installed", 0, how=how))
    return figures


def agrees(ours: np.ndarray, theirs: Any) -> dict[str, Any]:
    """Shapes, and at which places the frames differ: uint8 (T, H, W, 3) against an array, or a tensor (T, 3, H, W)."""
    other = theirs.permute(0, 2, 3, 1).numpy() if isinstance(theirs, torch.Tensor) else theirs
    if other.shape != ours.shape:
        return {"shape": list(other.shape), "same": 0}
    apart = [float(np.abs(a.astype(np.int16) - b).mean()) for a, b in zip(ours, other, strict=True)]
    differ = [i for i, value in enumerate(apart) if value > 1.0]  # of 255: a grey level of rounding is no other frame
    return {"same": len(ours) - len(differ), "of": len(ours), "differ_at": differ, "mean_difference": max(apart)}


def _resized(film: Path, sizes: Sizes) -> Figure:
    """fetch_video against load_clip at the size that avst asks for."""
    info = probe(film)
    n_frames = max(2, round(info.duration_s * FPS))
    asked = MediaSettings(fps=FPS, audio_rate=None, size=frame_size(info.width, info.height, n_frames))
    fetch = whole_qwen()
    shapes = {"avst": list(load_clip(film, asked).frames.shape), "qwen-vl-utils": list(fetch(film, FPS).shape)}
    seconds = by_turns({"avst": lambda: load_clip(film, asked), "qwen": lambda: fetch(film, FPS)}, sizes.repeats)
    how = {"seconds": seconds, "medians": medians(seconds), "shapes": shapes}
    return Figure(
        GROUP,
        "decoded and resized: qwen-vl-utils' fetch_video / avst",
        ratio(seconds, "qwen", "avst"),
        "x",
        ">= 1",
        how,
    )


def touch(path: Path, settings: MediaSettings) -> int:
    """Load a clip and read every byte of it; a number that depends on all of them."""
    clip = load_clip(path, settings)
    total = int(clip.frames.sum(dtype=np.uint64))
    return total if clip.audio is None else total + int(clip.audio.view(np.uint32).sum(dtype=np.uint64))


def cached(film: Path, folder: Path, sizes: Sizes) -> list[Figure]:
    """An epoch of clips, decoded against read from the cache. RuntimeError where the cache gives other bytes."""
    paths = copies(film, folder / "epoch", sizes.clips)
    plain, kept = MediaSettings(fps=FPS), MediaSettings(fps=FPS, cache_dir=folder / "cache")

    def epoch(settings: MediaSettings) -> list[int]:
        return [touch(path, settings) for path in paths]

    def first() -> list[int]:
        cache._checked.clear()  # as in a process that has not read these files before
        digest._known.clear()
        return epoch(kept)

    written = epoch(kept)
    before = cache.cache_stats()
    if not written == epoch(plain) == epoch(kept):
        raise RuntimeError("the cache gives other clips than the decoder")
    seconds = by_turns({"decoded": lambda: epoch(plain), "cached": lambda: epoch(kept), "first": first}, sizes.epochs)
    if cache.cache_stats().misses != before.misses:
        raise RuntimeError("a clip was not in the cache")
    how = {
        "seconds": seconds,
        "medians": medians(seconds),
        "clips": len(paths),
        "mb_a_clip": median(load_clip(path, kept).frames.nbytes for path in paths) / 1e6,
    }
    first_ratio = ratio(seconds, "decoded", "first")
    return [
        Figure(GROUP, "cached epoch against decoding", ratio(seconds, "decoded", "cached"), "x", ">= 10", how),
        Figure(GROUP, "the same, checksums verified (first in a process)", first_ratio, "x", ">= 10", how),
    ]
