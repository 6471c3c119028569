"""The videos of a report: linked, copied or left out; converted where no browser would play them.

link  the page refers to the file where it is, by a path relative to the report (thousands of videos cost nothing)
copy  the file is copied into the report, which can then be moved or sent
none  no picture: boxes are drawn on an empty frame
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from avst.media import MediaError, MediaInfo, MediaSettings, load_clip, probe, video_path
from avst.report.sound import RATE, waveform

Media = Literal["link", "copy", "none"]
CONTAINERS = {".mp4", ".m4v", ".mov", ".webm"}
VIDEO_CODECS = {"h264", "vp8", "vp9", "av1", "libdav1d", "libvpx", "libvpx-vp9"}
AUDIO_CODECS = {"", "aac", "mp3", "mp3float", "opus", "libopus", "vorbis", "libvorbis", "flac"}
DEADLINE_S = 60.0
CONVERSION_S = 600.0


@dataclass
class Video:
    """What the page knows of a clip. link: relative URL from disk;  served: URL below the report when it is served;
    error: why there is no picture."""

    link: str | None = None
    served: str | None = None
    width: int = 0
    height: int = 0
    duration_s: float = 0.0
    waveform: dict[str, object] | None = None
    error: str | None = None

    def as_json(self) -> dict[str, Any]:
        return {
            "link": self.link,
            "served": self.served,
            "width": self.width,
            "height": self.height,
            "duration": self.duration_s,
            "waveform": self.waveform,
            "error": self.error,
        }


def plays(info: MediaInfo) -> bool:
    """Whether today's browsers play the file as it is."""
    ending = Path(info.path).suffix.lower()
    return ending in CONTAINERS and info.video_codec in VIDEO_CODECS and info.audio_codec in AUDIO_CODECS


def prepare(
    videos_dir: Path | None,
    name: str,
    number: int,
    folder: Path,
    final: Path,
    media: Media,
    say: Callable[[str], None],
) -> tuple[Video, Path | None]:
    """The video `name` made ready, and the file that `served` stands for where it lies outside of the report.

    folder: the report while it is being written;  final: where it will be;  number: the video's in the report.
    """
    if videos_dir is None:
        return Video(error="The recipe names no folder of videos (--videos names one)."), None
    try:
        path = video_path(videos_dir, name)
        info = probe(path, DEADLINE_S)
    except MediaError as error:
        return Video(error=f"{error} (--videos names another folder)"), None
    video = Video(width=info.width, height=info.height, duration_s=info.duration_s)
    if info.has_audio:
        video.waveform = _waveform(path, info)
    if media == "none":
        video.error = "This report was made without videos (--media none)."
        return video, None
    if not plays(info):
        return _converted(video, path, info, number, folder, say), None
    video.served = f"media/{number}{path.suffix.lower()}"
    if media == "copy":
        (folder / "media").mkdir(exist_ok=True)
        shutil.copyfile(path, folder / video.served)
        video.link = video.served
        return video, None
    video.link = relative_url(path, final)
    return video, path.resolve()


def relative_url(path: Path, folder: Path) -> str:
    """`path` as a URL relative to `folder`. Example: ../../videos/a%20dog.mp4. A drive away: a file:// URL."""
    try:
        return quote(os.path.relpath(path.resolve(), folder.resolve()).replace(os.sep, "/"))
    except ValueError:  # another drive (Windows)
        return path.resolve().as_uri()


def _waveform(path: Path, info: MediaInfo) -> dict[str, object] | None:
    """Decoded in the worker process that can be killed; two tiny frames come along because a clip has frames."""
    settings = MediaSettings(fps=1.0, max_frames=2, size=(16, 16), audio_rate=RATE, deadline_s=DEADLINE_S)
    try:
        clip = load_clip(path, settings)
    except MediaError:
        return None
    return waveform(clip.audio, clip.audio_rate, info.duration_s)


def _converted(
    video: Video, path: Path, info: MediaInfo, number: int, folder: Path, say: Callable[[str], None]
) -> Video:
    say(f"{path.name}: no browser plays {info.video_codec} in {path.suffix}; converted to H.264")
    (folder / "media").mkdir(exist_ok=True)
    target = f"media/{number}.mp4"
    command = [sys.executable, "-P", "-m", "avst.report.convert", str(path), str(folder / target)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=CONVERSION_S, stdin=subprocess.DEVNULL, env=_environment()
        )
        why = "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["it crashed"])[-1]
    except subprocess.TimeoutExpired:
        why = f"it took longer than {CONVERSION_S:g} s"
    if why:
        (folder / target).unlink(missing_ok=True)
        video.error = f"No browser plays {info.video_codec}, and it could not be converted: {why[:300]}"
    else:
        video.link = video.served = target
    return video


def _environment() -> dict[str, str]:
    """Ours, with this avst to be found where it is not installed."""
    root = str(Path(__file__).resolve().parents[2])
    return os.environ | {"PYTHONPATH": os.pathsep.join(p for p in (os.environ.get("PYTHONPATH"), root) if p)}
