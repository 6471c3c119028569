"""What is in a file, found by reading its packets without decoding them. Runs inside the worker process (needs av).

Headers lie (wrong durations, cut-off files, files written by browsers with no duration at all), packets hardly ever
do: a 40 s clip is read through in a few milliseconds.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.stream import Disposition

from avst.media.paths import check_file
from avst.media.settings import MediaError, MediaInfo

# Containers that hold pictures and sound. Playlists and scripts (hls, concat, dash …) are left out on purpose: they
# would open other files of this machine, or of the network, on behalf of a file that only calls itself .mp4.
FORMATS = "mov,matroska,avi,mpegts,mpeg,mpegvideo,flv,ogg,asf,gif,apng,nut,mxf,rm,h264,hevc,m4v,ivf,wav,mp3,aac,flac"
# Formats with an index by which a keyframe is found exactly, and formats whose header states the duration (raw streams'
# is guessed from the bit rate).
SEEKABLE = {"mp4", "matroska"}
HONEST_HEADERS = {"mp4", "matroska", "avi", "flv"}
# A file is taken for cut off where its packets end this much before what its header says.
CUT_OFF_S = 0.25
NO_DURATION_S = 0.04


@dataclass(frozen=True, slots=True)
class Scan:
    """A file's streams and the times of its coded frames, on the clip's clock.

    video, audio: stream indices (audio None: no track);  origin_s: stream time of t = 0, exact;
    shown_s: sorted start second of every coded frame that will be shown;  keyframes_s: the sorted seconds of keyframes;
    seekable: the container's own index can be trusted for seeking.
    """

    info: MediaInfo
    video: int
    audio: int | None
    origin_s: Fraction
    shown_s: list[float]
    keyframes_s: list[float]
    seekable: bool


@dataclass(slots=True)
class _Packets:
    """What was seen of one stream, in its own ticks."""

    pts: list[int]
    keys: list[int]
    end: int = 0
    undated: int = 0


@contextmanager
def open_media(path: str | Path) -> Iterator[Any]:
    """Open a file with PyAV for reading; errors name the file and what is wrong with it."""
    check_file(path)
    options = {"format_whitelist": FORMATS, "protocol_whitelist": "file"}
    try:
        container = av.open(os.fspath(path), container_options=options, metadata_errors="replace")
    except (av.FFmpegError, ValueError) as error:
        raise MediaError(f"{path}: {_why_not_opened(path, error)}") from error
    with container:
        yield container


def _why_not_opened(path: str | Path, error: Exception) -> str:
    with open(path, "rb") as file:
        head = file.read(512)
    if not head.strip(b"\0"):
        return "not a video: it begins with nothing but zero bytes"
    if b"\0" not in head and all(byte >= 32 or byte in b"\t\n\r\f" for byte in head):
        return "a text file, not a video"
    if isinstance(error, av.FFmpegError) and not isinstance(error, av.InvalidDataError | av.ArgumentError):
        return f"cannot be opened: {error.strerror}"
    return "not a video file, or its header is damaged or missing"


def scan(path: str | Path) -> Scan:
    """Read the file through once, without decoding a picture.

    Raises MediaError: no video stream, no frame, or a file cut off before the end that its header gives.
    """
    with open_media(path) as container:
        video = _picture_stream(container)
        if video is None:
            raise MediaError(f"{path}: no video stream")
        audio = container.streams.best("audio")
        if audio is not None and (audio.codec_context is None or not audio.codec_context.sample_rate):
            audio = None
        seen, broken = _read_packets(container, [s for s in (video, audio) if s is not None])
        pictures = seen[video.index]
        _date_the_undated(pictures, video)
        if not pictures.pts:
            raise MediaError(f"{path}: the video stream holds no frame")
        sound = seen[audio.index] if audio is not None else None
        if sound is not None and not sound.pts:
            audio = sound = None
        rotation, audio_first = _first_frames(path, video.index, audio.index if audio is not None else None)
        return _describe(path, container, video, audio, pictures, sound, rotation, audio_first, broken)


def _picture_stream(container: Any) -> Any | None:
    """The best video stream that is no cover picture."""
    moving = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic and s.codec_context]
    best = container.streams.best("video")
    return best if best in moving else next(iter(moving), None)


def _read_packets(container: Any, streams: list[Any]) -> tuple[dict[int, _Packets], str]:
    """Packets by stream index, and the reading error that ended them early ("" if none did)."""
    seen = {stream.index: _Packets([], []) for stream in streams}
    try:
        for packet in container.demux(*streams):
            if packet.size == 0 or packet.is_corrupt or packet.is_discard:
                continue
            of = seen[packet.stream_index]
            pts = packet.pts if packet.pts is not None else packet.dts
            if pts is None:
                of.undated += 1
                continue
            of.pts.append(pts)
            if packet.is_keyframe:
                of.keys.append(pts)
            of.end = max(of.end, pts + (packet.duration or 0)) if len(of.pts) > 1 else pts + (packet.duration or 0)
    except av.FFmpegError as error:
        return seen, error.strerror or str(error)
    return seen, ""


def _date_the_undated(pictures: _Packets, video: Any) -> None:
    """Raw streams carry no times: their frames are laid out at the frame rate, as the decoder does."""
    if pictures.pts or not pictures.undated:
        return
    step = _frame_step(video)
    pictures.pts = [round(i * step) for i in range(pictures.undated)]
    pictures.end = round(pictures.undated * step)


def _frame_step(video: Any) -> Fraction:
    """Ticks a frame at the stream's average rate (25 a second where it gives none)."""
    rate = video.average_rate or video.guessed_rate or Fraction(25)
    return 1 / (rate * video.time_base)


def _first_frames(path: str | Path, video: int, audio: int | None) -> tuple[int, Fraction | None]:
    """(rotation in degrees, second at which the sound starts), which only decoded frames tell.

    Encoders prepend samples (AAC: 1024) that the decoder takes off again: the first packet's pts is before the sound.
    """
    return _rotation(path, video), _audio_start(path, audio) if audio is not None else None


def _rotation(path: str | Path, index: int) -> int:
    with open_media(path) as container:
        try:
            frame = next(container.decode(container.streams[index]), None)
        except av.FFmpegError:
            return 0  # said where frames are decoded, with the time
        return int(frame.rotation) if frame is not None else 0


def _audio_start(path: str | Path, index: int) -> Fraction | None:
    with open_media(path) as container:
        try:
            frame = next(container.decode(container.streams[index]), None)
        except av.FFmpegError:
            return None
        return frame.pts * frame.time_base if frame is not None and frame.pts is not None else None


def _describe(
    path: str | Path,
    container: Any,
    video: Any,
    audio: Any | None,
    pictures: _Packets,
    sound: _Packets | None,
    rotation: int,
    audio_first: Fraction | None,
    broken: str,
) -> Scan:
    tick = video.time_base
    first, last = min(pictures.pts), max(pictures.pts)
    if pictures.end <= last:  # the last packet has no duration of its own
        pictures.end = last + round(_frame_step(video))
    starts, ends = [first * tick], [pictures.end * tick]
    if audio is not None and sound is not None:
        starts.append(audio_first if audio_first is not None else min(sound.pts) * audio.time_base)
        ends.append(max(Fraction(sound.end) * audio.time_base, starts[1]))
    origin = min(starts)
    duration = max(ends) - origin
    _refuse_cut_off(path, container, video, origin, ends, broken)
    quarter_turned = rotation % 180 != 0
    width, height = video.codec_context.width, video.codec_context.height
    if not width or not height:
        raise MediaError(f"{path}: the video stream has no frame size; its header is damaged")
    has_audio = audio is not None
    info = MediaInfo(
        path=os.fspath(path),
        width=height if quarter_turned else width,
        height=width if quarter_turned else height,
        rotation=rotation,
        duration_s=float(duration) or NO_DURATION_S,
        video_start_s=float(starts[0] - origin),
        video_end_s=float(ends[0] - origin) or NO_DURATION_S,
        fps=float(video.average_rate or 0),
        n_frames=len(pictures.pts),
        video_codec=video.codec_context.name,
        has_audio=has_audio,
        audio_start_s=float(starts[1] - origin) if has_audio else 0.0,
        audio_end_s=float(ends[1] - origin) if has_audio else 0.0,
        audio_rate=audio.codec_context.sample_rate if audio is not None else 0,
        audio_channels=audio.codec_context.channels if audio is not None else 0,
        audio_codec=audio.codec_context.name if audio is not None else "",
    )
    seconds = sorted(float(pts * tick - origin) for pts in pictures.pts)
    keys = sorted(float(pts * tick - origin) for pts in pictures.keys)
    seekable = bool(_names(container) & SEEKABLE)
    return Scan(info, video.index, audio.index if audio is not None else None, origin, seconds, keys, seekable)


def _names(container: Any) -> set[str]:
    return set(container.format.name.split(","))


def _refuse_cut_off(
    path: str | Path, container: Any, video: Any, origin: Fraction, ends: list[Fraction], broken: str
) -> None:
    """A file whose packets end before its header's end was cut off (an interrupted download or copy)."""
    at = float(ends[0] - origin)
    if broken:
        raise MediaError(f"{path}: unreadable from {at:.3f} s on ({broken})")
    if not _names(container) & HONEST_HEADERS:
        return
    if video.duration is not None:
        begin = video.start_time if video.start_time is not None else 0
        promised, found = (begin + video.duration) * video.time_base - origin, ends[0] - origin
    elif container.duration is not None:  # Matroska counts it from 0, whatever the first pts is
        promised, found = Fraction(container.duration, av.time_base), max(max(ends), max(ends) - origin)
    else:
        return
    if promised - found > CUT_OFF_S:
        raise MediaError(f"{path}: cut off at {at:.3f} s; its header promises {float(promised):.3f} s")
