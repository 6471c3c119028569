"""Decoding with decord, where it is installed. Runs inside the worker process: decord is known to hang on some files.

Only the pictures are decord's: its audio reader has no times for its samples, so the sound is decoded by PyAV.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import decord
import numpy as np
from av import VideoFrame

from avst.media.clock import PTS_SLACK_S
from avst.media.pyav_decoder import THREADS, decode_audio, to_rgb
from avst.media.scan import Scan
from avst.media.settings import MediaError

# Times that differ by less are those of one frame.
SAME_FRAME_S = 0.002

__all__ = ["decode_audio", "decode_video"]


def decode_video(path: str, scan: Scan, times_s: Sequence[float], size: tuple[int, int] | None) -> Iterator[np.ndarray]:
    """As avst.media.pyav_decoder.decode_video; damage inside the file is reported only as far as decord reports it."""
    if not scan.seekable:  # in MPEG-TS decord's frame 0 is not the first one, whatever times it gives
        raise MediaError(f"{path}: decord finds frames only in MP4 and Matroska; use the decoder pyav for it")
    try:
        reader = decord.VideoReader(path, ctx=decord.cpu(0), num_threads=THREADS)
        starts_s = reader.get_frame_timestamp(np.arange(len(reader)))[:, 0]
    except (decord.DECORDError, RuntimeError) as error:
        raise MediaError(f"{path}: decord cannot open it ({_line(error)})") from error
    starts_s = starts_s - starts_s[0] + scan.info.video_start_s  # with some containers it counts from the first frame
    # decord keeps times as 32-bit floats, seconds from 0 or from the first frame.
    slack = max(PTS_SLACK_S, 2 * float(np.spacing(np.float32(scan.info.duration_s + abs(float(scan.origin_s))))))
    if len(starts_s) != len(scan.shown_s) or np.abs(starts_s - scan.shown_s).max() > SAME_FRAME_S:
        raise MediaError(f"{path}: decord finds other frame times than the file has; use the decoder pyav for it")
    shown = np.maximum(np.searchsorted(starts_s, np.asarray(times_s) + slack, side="right") - 1, 0)
    last: tuple[int, np.ndarray] | None = None
    for t, index in zip(times_s, shown.tolist(), strict=True):
        if last is None or last[0] != index:
            try:
                frame = VideoFrame.from_ndarray(reader[index].asnumpy(), "rgb24")
            except (decord.DECORDError, IndexError, RuntimeError) as error:
                raise MediaError(f"{path}: the frame at {t:.3f} s is unreadable (decord: {_line(error)})") from error
            last = (index, to_rgb(frame, size))  # decord has turned it upright already
        yield last[1]


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
