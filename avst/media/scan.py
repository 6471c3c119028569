"""What is in a file, found by reading its packets without decoding them. Runs inside the worker process (needs av).

Headers lie (wrong durations, cut-off files, files written by browsers with no duration at all), packets hardly ever
do: a 40 s clip is read through in a few milliseconds.
"""

from __future__ import annotations

import math
import os
from bisect import bisect_left
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.stream import Disposition

from avst.media.holes import Tears
from avst.media.settings import MediaError, MediaInfo
from avst.media.source import open_media

# Formats with an index by which a keyframe is found exactly, and formats whose header states the duration (raw streams'
# is guessed from the bit rate).
SEEKABLE = {"mp4", "matroska"}
HONEST_HEADERS = {"mp4", "matroska", "avi", "flv"}
# A file is taken for cut off where its packets end this much before what its header says.
CUT_OFF_S = 0.25
NO_DURATION_S = 0.04
# Nothing that is asked about lasts so long: such time stamps are damaged, and would ask for all the memory there is.
LONGEST_S = 24 * 3600


@dataclass(frozen=True, slots=True)
class Scan:
    """A file's streams and the times of its coded frames, on the clip's clock.

    video, audio: stream indices (audio None: no track);  origin_s: stream time of t = 0, exact;
    shown_s: sorted start second of every coded frame that will be shown;  keyframes_s: the sorted seconds of keyframes;
    seekable: the container's own index can be trusted for seeking;  lost_s: stretches (from, to) in which frames are
    missing, up to the next keyframe;  silent_s: the same of the sound (avst.media.holes).
    """

    info: MediaInfo
    video: int
    audio: int | None
    origin_s: Fraction
    shown_s: list[float]
    keyframes_s: list[float]
    seekable: bool
    lost_s: list[tuple[float, float]] = field(default_factory=list)
    silent_s: list[tuple[float, float]] = field(default_factory=list)


@dataclass(slots=True)
class _Packets:
    """What was seen of one stream, in its own ticks."""

    pts: list[int]
    keys: list[int]
    end: int = 0
    undated: int = 0


@dataclass(frozen=True, slots=True)
class _Sound:
    """start: stream time of the first sample, None if unknown;  rate: Hz."""

    start: Fraction | None
    rate: int
    channels: int
    codec: str


class _First:
    """The first decoded frame of a stream, from its packets as they are read: some things only a frame tells."""

    def __init__(self, stream: Any) -> None:
        stream.codec_context.thread_count = 1  # more of them would only wait for more packets
        self.frame: Any | None = None
        self.seeking = True

    def feed(self, packet: Any) -> None:
        if not self.seeking:
            return
        try:
            self.frame = next(iter(packet.decode()), None)
            self.seeking = self.frame is None
        except av.FFmpegError:  # said where frames are decoded, with the time
            self.seeking = False


def scan(path: str | Path) -> Scan:
    """Read the file through once, without decoding more than the first picture.

    Raises MediaError: no video stream, no frame, or a file cut off before the end that its header gives.
    """
    with open_media(path) as container:
        video = _picture_stream(container)
        if video is None:
            raise MediaError(f"{path}: no video stream")
        audio = container.streams.best("audio")
        if audio is not None and (audio.codec_context is None or not audio.codec_context.sample_rate):
            audio = None
        firsts = {stream.index: _First(stream) for stream in (video, audio) if stream is not None}
        tears = Tears(_names(container))
        seen, broken = _read_packets(container, [s for s in (video, audio) if s is not None], firsts, tears)
        pictures = seen[video.index]
        _date_the_undated(pictures, video)
        if not pictures.pts:
            raise MediaError(f"{path}: the video stream holds no frame")
        sound = seen[audio.index] if audio is not None else None
        if sound is not None and not sound.pts:
            audio = sound = None
        first = _first_sound(audio, firsts[audio.index].frame) if audio is not None else None
        begins, ends = _spans(video, pictures, audio, sound, first)
        origin = min(begins)
        _refuse_cut_off(path, container, video, origin, ends, broken)
        if max(ends) - origin > LONGEST_S:
            raise MediaError(f"{path}: its time stamps span {float(max(ends) - origin) / 3600:.0f} hours; damaged")
        picture = firsts[video.index].frame
        rotation = int(picture.rotation) if picture is not None else 0
        found = _describe(path, container, video, audio, pictures, begins, ends, first, rotation)
        return _with_holes(found, tears, video, pictures, audio, sound)


def _picture_stream(container: Any) -> Any | None:
    """The best video stream that is no cover picture."""
    moving = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic and s.codec_context]
    best = container.streams.best("video")
    return best if best in moving else next(iter(moving), None)


def _read_packets(
    container: Any, streams: list[Any], firsts: dict[int, _First], tears: Tears
) -> tuple[dict[int, _Packets], str]:
    """Packets by stream index, and the reading error that ended them early ("" if none did)."""
    seen = {stream.index: _Packets([], []) for stream in streams}
    try:
        for packet in container.demux():  # of all streams: what lies between two packets may be another stream's
            if packet.size:
                tears.feed(packet)
            if packet.stream_index not in seen:
                continue
            firsts[packet.stream_index].feed(packet)
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
    except IndexError:  # PyAV 18, behind the last packet: a stream that the header does not name came up in between
        pass
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


def _first_sound(audio: Any, frame: Any | None) -> _Sound:
    """What only a decoded block tells; the header's word where the first block is damaged.

    Its start (encoders prepend samples, AAC 1024, that the decoder takes off again) and its rate (HE-AAC's header may
    say half of it).
    """
    codec = audio.codec_context
    if frame is None:
        return _Sound(None, codec.sample_rate, codec.channels, codec.name)
    start = frame.pts * frame.time_base if frame.pts is not None else None
    return _Sound(start, frame.sample_rate, frame.layout.nb_channels, codec.name)


def _spans(
    video: Any, pictures: _Packets, audio: Any | None, sound: _Packets | None, first: _Sound | None
) -> tuple[list[Fraction], list[Fraction]]:
    """Stream times at which (picture, sound) begin and end; one entry each where there is no sound."""
    last = max(pictures.pts)
    end = pictures.end if pictures.end > last else last + round(_frame_step(video))  # the last packet has no duration
    begins, ends = [min(pictures.pts) * video.time_base], [end * video.time_base]
    if audio is not None and sound is not None and first is not None:
        begins.append(first.start if first.start is not None else min(sound.pts) * audio.time_base)
        ends.append(max(sound.end * audio.time_base, begins[1]))
    return begins, ends


def _describe(
    path: str | Path,
    container: Any,
    video: Any,
    audio: Any | None,
    pictures: _Packets,
    begins: list[Fraction],
    ends: list[Fraction],
    first: _Sound | None,
    rotation: int,
) -> Scan:
    origin = min(begins)
    width, height = video.codec_context.width, video.codec_context.height
    if not width or not height:
        raise MediaError(f"{path}: the video stream has no frame size; its header is damaged")
    quarter_turned = round(rotation / 90) % 2 == 1
    info = MediaInfo(
        path=os.fspath(path),
        width=height if quarter_turned else width,
        height=width if quarter_turned else height,
        rotation=rotation,
        duration_s=float(max(ends) - origin) or NO_DURATION_S,
        video_start_s=float(begins[0] - origin),
        video_end_s=float(ends[0] - origin) or NO_DURATION_S,
        fps=float(video.average_rate or 0),
        n_frames=len(pictures.pts),
        video_codec=video.codec_context.name,
        has_audio=first is not None,
        audio_start_s=float(begins[-1] - origin) if first else 0.0,
        audio_end_s=float(ends[-1] - origin) if first else 0.0,
        audio_rate=first.rate if first else 0,
        audio_channels=first.channels if first else 0,
        audio_codec=first.codec if first else "",
    )
    seconds, keys = (sorted(seconds_of(ticks, video.time_base, origin)) for ticks in (pictures.pts, pictures.keys))
    seekable = bool(_names(container) & SEEKABLE)
    return Scan(info, video.index, audio.index if audio is not None else None, origin, seconds, keys, seekable)


def _with_holes(
    found: Scan, tears: Tears, video: Any, pictures: _Packets, audio: Any | None, sound: _Packets | None
) -> Scan:
    """The scan with what is missing in the middle of the file."""

    def seconds(stream: Any, packets: _Packets) -> list[tuple[float, float]]:
        gaps = tears.gaps(stream.index, sorted(packets.pts))
        return [(a, b) for a, b in (seconds_of(list(gap), stream.time_base, found.origin_s) for gap in gaps)]

    keys = [*found.keyframes_s, math.inf]
    lost = [(start, keys[bisect_left(keys, end)]) for start, end in seconds(video, pictures)]
    silent = seconds(audio, sound) if audio is not None and sound is not None else []
    if "mpegts" in tears.formats:  # nothing but a gap tells there, and sound may have pauses
        silent = [(a, b) for a, b in silent if any(a < end and start < b for start, end in lost)]
    return replace(found, lost_s=lost, silent_s=silent)


def seconds_of(ticks: list[int], time_base: Fraction, origin: Fraction) -> list[float]:
    """float(t * time_base - origin) for each of `ticks`, rounded once, without a Fraction for each."""
    up, down = time_base.numerator * origin.denominator, time_base.denominator * origin.denominator
    off = origin.numerator * time_base.denominator
    return [(t * up - off) / down for t in ticks]


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
