"""Decoding with PyAV: the two functions every decoder has. Runs inside the worker process.

decode_video(path, scan, times_s, size) -> iterator of uint8 (H, W, 3), one frame for each time
decode_audio(path, scan, rate, channels) -> float32 (N,) or (channels, N), or None without a track
"""

from __future__ import annotations

import math
import os
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

import av
import numpy as np

from avst.media.audio import Timeline
from avst.media.clock import PTS_SLACK_S, shown_at
from avst.media.scan import Scan, seconds_of
from avst.media.settings import Channels, MediaError
from avst.media.source import open_media

# More threads than four make small videos slower, and loaders run several workers.
THREADS = int(os.environ.get("AVST_DECODER_THREADS") or max(1, min(4, os.cpu_count() or 1)))
# Codecs whose "non-reference" pictures are really referred to by none (H.264's nal_ref_idc 0, B-frames of MPEG-2 and
# MPEG-4): those nobody asked for need not be decoded. In H.265 higher sub-layers may refer to them.
PASSES_OVER = {"h264", "mpeg2video", "mpeg4"}
# Seeking costs a flush of the decoder's threads; it pays where at least this much is passed over.
SEEK_OVER_S = 2.0
# A frame may be built on frames that are shown after it, at most this many (encoders' usual runs of B-frames).
AHEAD = 4


def decode_video(path: str, scan: Scan, times_s: Sequence[float], size: tuple[int, int] | None) -> Iterator[np.ndarray]:
    """Frames on screen at `times_s` (ascending), as displayed: rotated, RGB, resized to `size` = (width, height).

    Raises MediaError naming the time where the frame due is unreadable: its packet cannot be decoded, or is built on
    one that cannot (until the next keyframe).
    """
    reader = _Reader(path, scan, times_s)
    last: tuple[Any, np.ndarray] | None = None
    for t, frame in shown_at(_read_ahead(reader), times_s):
        reader.refuse_damage(t)
        if last is None or last[0] is not frame:
            last = (frame, to_rgb(frame, size, scan.info.rotation))
        yield last[1]
    if last is None and len(times_s):
        raise MediaError(f"{path}: no frame can be decoded")


def to_rgb(frame: Any, size: tuple[int, int] | None, rotation: int = 0) -> np.ndarray:
    """A decoded frame as contiguous uint8 (H, W, 3), scaled by swscale (bicubic) and turned upright.

    size: (width, height) as displayed; None keeps the frame's own. rotation: degrees counter-clockwise, to the
    nearest 90.
    """
    turns = round(rotation / 90) % 4
    width, height = size if size is not None else (0, 0)
    if turns % 2:
        width, height = height, width
    rgb = frame.reformat(
        width=width or frame.width, height=height or frame.height, format="rgb24", interpolation="BICUBIC", threads=1
    ).to_ndarray()
    return np.ascontiguousarray(np.rot90(rgb, turns) if turns else rgb)


def _read_ahead(reader: _Reader) -> Iterator[tuple[float, Any]]:
    """The reader's frames, each given out once the AHEAD after it have been decoded."""
    waiting: deque[tuple[float, Any]] = deque()
    for item in reader:
        waiting.append(item)
        if len(waiting) > AHEAD:
            yield waiting.popleft()
    yield from waiting


class _Reader:
    """Decoded frames as (second, frame) in display order, and what is damaged among them.

    Skips ahead by keyframes, and leaves out frames that are neither asked for nor referred to by others ("sparse").
    Where a sparse reading meets anything but what it expects (damage, an asked frame that does not come, fields), the
    file is read again with every frame decoded.
    """

    def __init__(self, path: str, scan: Scan, times_s: Sequence[float]) -> None:
        self.path, self.scan, self.times_s = path, scan, times_s
        shown = [max(bisect_right(scan.shown_s, t + PTS_SLACK_S) - 1, 0) for t in times_s]
        self.due_s = sorted({scan.shown_s[i] for i in shown})
        self.sparse = scan.info.video_codec in PASSES_OVER
        self._forget()

    def _forget(self) -> None:
        self.decoded: set[float] = set()
        self.damaged: list[float] = []  # seconds of frames flagged corrupt
        self.passed_over: list[tuple[float, float]] = []  # (from, to): seconds between which a seek left frames out
        self.errors = 0

    def __iter__(self) -> Iterator[tuple[float, Any]]:
        given = -math.inf
        seek = self.scan.seekable
        while True:
            with open_media(self.path) as container:
                for at, frame in self._read(container, seek):
                    if at is None:
                        seek = False  # it went astray: read this file from its start instead
                        break
                    self.decoded.add(at)
                    if frame.is_corrupt:
                        self.damaged.append(at)
                    if self.sparse and not self._as_expected(at, frame):
                        break
                    if at > given:
                        given = at
                        yield at, frame
                else:
                    if not self.sparse or self._as_expected(math.inf, None):
                        return
            self._forget()
            self.sparse = False

    def _as_expected(self, at: float, frame: Any) -> bool:
        """Whether a sparse reading that has come to second `at` has met every frame that was due, all of them whole."""
        if self.errors or self.damaged or (frame is not None and frame.interlaced_frame):
            return False
        due = bisect_left(self.due_s, at)
        return due == 0 or self.due_s[due - 1] in self.decoded

    def _read(self, container: Any, seek: bool) -> Iterator[tuple[float | None, Any]]:
        """All frames it can; (None, None) once if a seek did not land where the container's index said."""
        stream = container.streams[self.scan.video]
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = THREADS
        frames = self._frames(container, stream)
        last = -math.inf
        landing: float | None = None
        while True:
            if seek and landing is None and (landing := self._worth_seeking(last)) is not None:
                container.seek(self._ticks(landing, stream), stream=stream)
                frames = self._frames(container, stream)
                self.passed_over.append((last, landing))
            frame = next(frames, None)
            if frame is None:
                if landing is not None:
                    yield None, None
                return
            at = self._second(frame, last)
            if landing is not None:
                if at < landing - PTS_SLACK_S:
                    continue  # before the keyframe: not needed, and perhaps built on what was passed over
                if at > landing + PTS_SLACK_S:
                    yield None, None
                    return
                landing = None
            last = max(last, at)
            yield at, frame

    def _ticks(self, second: float, stream: Any) -> int:
        return round((Fraction(second) + self.scan.origin_s) / stream.time_base)

    def _worth_seeking(self, last: float) -> float | None:
        """The keyframe to jump to when nothing between it and the frame at `last` will be asked for, else None."""
        wanted = bisect_left(self.times_s, last - PTS_SLACK_S)
        if wanted == len(self.times_s):
            return None
        key = bisect_right(self.scan.keyframes_s, self.times_s[wanted] + PTS_SLACK_S) - 1
        if key < 0:
            return None
        at = self.scan.keyframes_s[key]
        return at if at > max(last, 0.0) + SEEK_OVER_S else None

    def _frames(self, container: Any, stream: Any) -> Iterator[Any]:
        due = {self._ticks(second, stream) for second in self.due_s}
        codec = stream.codec_context
        try:
            for packet in container.demux(stream):
                needed = not self.sparse or packet.pts is None or packet.pts in due
                # read with each packet, also by the decoder's threads
                codec.skip_frame = "DEFAULT" if needed else "NONREF"
                try:
                    yield from packet.decode()
                except MemoryError:  # PyAV's own is an FFmpegError too, and says nothing about the file
                    raise
                except av.FFmpegError:
                    self.errors += 1
        except MemoryError:
            raise
        except av.FFmpegError:
            self.errors += 1

    def _second(self, frame: Any, last: float) -> float:
        """Second of a frame on the clip's clock; a frame without pts follows the one before it."""
        if frame.pts is not None:
            return seconds_of([frame.pts], frame.time_base, self.scan.origin_s)[0]
        index = bisect_right(self.scan.shown_s, last + PTS_SLACK_S)
        return self.scan.shown_s[index] if index < len(self.scan.shown_s) else last + 1.0 / (self.scan.info.fps or 25.0)

    def refuse_damage(self, t: float) -> None:
        """Raise MediaError if the frame due at t, or one it is built on, could not be decoded whole."""
        if not self.errors and not self.damaged:
            return
        due = bisect_right(self.scan.shown_s, t + PTS_SLACK_S)
        keys = self.scan.keyframes_s
        key = bisect_right(keys, t + PTS_SLACK_S) - 1
        start = bisect_left(self.scan.shown_s, keys[key] - PTS_SLACK_S) if key >= 0 else 0
        built_on = self.scan.shown_s[start : max(due, 1) + AHEAD]
        if key + 1 < len(keys):
            built_on = [s for s in built_on if s < keys[key + 1] - PTS_SLACK_S]
        unread = [s for s in built_on if s not in self.decoded and not any(a < s < b for a, b in self.passed_over)]
        bad = sorted({*unread, *(s for s in built_on if s in self.damaged)})
        if bad:
            raise MediaError(
                f"{self.path}: the frame at {t:.3f} s is unreadable (the video is damaged at {bad[0]:.3f} s)"
            )


def decode_audio(path: str, scan: Scan, rate: int, channels: Channels) -> np.ndarray | None:
    """The sound from t = 0 at `rate` Hz: float32 (N,) mono or (channels, N); gaps are silence; None without a track.

    Raises MediaError where more of the sound is unreadable than avst.media.audio allows.
    """
    if scan.audio is None:
        return None
    info = scan.info
    timeline = Timeline(path, info.audio_rate, rate, info.audio_channels, channels)
    with open_media(path) as container:
        stream = container.streams[scan.audio]
        for frame in _audio_frames(container, stream, timeline):
            at = None if frame.pts is None else float(frame.pts * frame.time_base - scan.origin_s)
            if (frame.sample_rate, frame.layout.nb_channels) != (info.audio_rate, info.audio_channels):
                raise MediaError(
                    f"{path}: the sound changes its rate or channels in the middle, which is not supported"
                )
            timeline.add(to_float(frame), at)
    return timeline.finish(info.audio_end_s)


def to_float(frame: Any) -> np.ndarray:
    """A decoded block as float32 (channels, n) in [-1, 1], whatever its sample format; channels stay as they are."""
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - 128) / 128
    if samples.dtype.kind == "i":
        return samples.astype(np.float32) / -float(np.iinfo(samples.dtype).min)
    return samples.astype(np.float32, copy=False)


def _audio_frames(container: Any, stream: Any, timeline: Timeline) -> Iterator[Any]:
    try:
        for packet in container.demux(stream):
            try:
                yield from packet.decode()
            except av.FFmpegError:
                timeline.lose(float((packet.duration or 0) * packet.time_base))
    except av.FFmpegError:
        timeline.lose(0.0)
