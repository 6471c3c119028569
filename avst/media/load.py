"""load_clip and probe: the two ways into this room. Everything that touches a decoder happens in the worker process."""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from dataclasses import replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from avst.media.cache import FORMAT, ClipCache, Entry
from avst.media.digest import content_digest, file_stamp
from avst.media.paths import check_file
from avst.media.process import Worker, expect, worker_for
from avst.media.settings import MediaError, MediaInfo, MediaSettings
from avst.types import Clip

DECODES = ("fps", "max_frames", "size", "audio_rate", "channels", "decoder")


def probe(path: str | Path, deadline_s: float = 60.0) -> MediaInfo:
    """What is in a file, without decoding it; remembered as long as the file does not change. MediaError for a file
    that cannot be used.
    """
    key = (os.path.abspath(path), file_stamp(path))
    if key not in _probed:
        _probed[key] = _probe(path, deadline_s)
    return replace(_probed[key], path=os.fspath(path))


_probed: dict[tuple[str, str], MediaInfo] = {}


def _probe(path: str | Path, deadline_s: float) -> MediaInfo:
    request = {"op": "probe", "path": os.fspath(path), "deadline_s": deadline_s}
    until = time.monotonic() + deadline_s
    with worker_for(path, request) as worker:
        found = expect(worker.receive(until), "info")
        expect(worker.receive(until), "done")
    return MediaInfo(**found["info"])


def load_clip(path: str | Path, settings: MediaSettings | None = None) -> Clip:
    """Decode a clip, or take it from the cache: frames uint8 (T, H, W, 3), T even, and sound from t = 0 to its own end.

    duration_s is the end of the longer of picture and sound. Raises MediaError, one line that names the file and the
    cause.

    Example: load_clip("videos/abc.mp4", MediaSettings(fps=2.0, size=(448, 252))).frames.shape == (80, 252, 448, 3)
    """
    settings = settings or MediaSettings()
    store = None
    if settings.cache_dir is not None:
        store = ClipCache(settings.cache_dir, int(settings.cache_gb * 1e9))
    stamp = file_stamp(path)
    digest = content_digest(path, store.digests if store else None)
    key = _key(digest, settings)
    entry = store.read(key) if store else None
    hit = entry is not None
    if entry is None:
        entry = _decode(path, settings)
        if file_stamp(path) != stamp:
            raise MediaError(f"{path}: the file changed while it was being decoded")
        if store is not None:
            store.write(key, entry)
    return _clip(path, digest, settings, entry, hit)


def _key(digest: str, settings: MediaSettings) -> str:
    asked = {name: getattr(settings, name) for name in DECODES}
    text = json.dumps([FORMAT, digest, asked, _versions(settings.decoder)], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=20).hexdigest()


@cache
def _versions(decoder: str) -> dict[str, str]:
    """Versions of what shapes the pixels and the samples; another version's clips are not taken from the cache."""
    found = {}
    for package in sorted({"av", "soxr", "av" if decoder == "pyav" else decoder}):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "none"
    return found


def _decode(path: str | Path, settings: MediaSettings) -> Entry:
    check_file(path)
    request: dict[str, Any] = {name: getattr(settings, name) for name in DECODES}
    request |= {"op": "decode", "path": os.fspath(path), "deadline_s": settings.deadline_s}
    until = time.monotonic() + settings.deadline_s
    with worker_for(path, request) as worker:
        head = expect(worker.receive(until), "clip")
        frames = _frames(path, worker, head["shape"], until)
        audio = None
        header = expect(worker.receive(until), "audio", "done")
        if header["kind"] == "audio":
            audio = np.empty(header["shape"], np.float32)
            worker.receive_into(audio.reshape(-1).data.cast("B"), until)
            expect(worker.receive(until), "done")
    return Entry(frames, audio, {"info": head["info"], "times_s": head["times_s"], "fps": head["fps"]})


def _frames(path: str | Path, worker: Worker, shape: list[int], until: float) -> np.ndarray:
    """T frames, each received straight into its place."""
    need = math.prod(shape)
    if need > os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"):
        what = f"{shape[0]} frames of {shape[2]}x{shape[1]} px ({need / 1e9:.1f} GB)"
        raise MediaError(f"{path}: no memory for {what}; set max_frames or a smaller size")
    frames = np.empty(shape, np.uint8)
    for frame in frames:
        header = expect(worker.receive(until), "frame")
        if header["bytes"] != frame.nbytes:
            raise MediaError(
                f"{path}: the decoder sent a frame of {header['bytes']} bytes where {frame.nbytes} were due"
            )
        worker.receive_into(frame.reshape(-1).data, until)
    return frames


def _clip(path: str | Path, digest: str, settings: MediaSettings, entry: Entry, hit: bool) -> Clip:
    info = entry.meta["info"]
    return Clip(
        frames=entry.frames,
        times_s=np.asarray(entry.meta["times_s"], dtype=np.float64),
        fps=entry.meta["fps"],
        source_size=(info["width"], info["height"]),
        duration_s=info["duration_s"],
        audio=entry.audio,
        audio_rate=settings.audio_rate or 0,
        provenance={
            "path": os.fspath(path),
            "digest": digest,
            "settings": {name: getattr(settings, name) for name in DECODES},
            "versions": _versions(settings.decoder),
            "info": {name: value for name, value in info.items() if name != "path"},
            "from_cache": hit,
        },
    )
