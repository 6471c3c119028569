"""Decoding with torchcodec, where it and the system's FFmpeg libraries are installed. Runs inside the worker process.

The one decoder for which the worker imports torch: its first clip takes some seconds longer.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence

import numpy as np
from av import VideoFrame
from torchcodec.decoders import AudioDecoder, VideoDecoder

from avst.media.audio import Timeline
from avst.media.clock import PTS_SLACK_S
from avst.media.pyav_decoder import THREADS, to_rgb
from avst.media.scan import Scan
from avst.media.settings import Channels, MediaError

# Times that differ by less are those of one frame.
SAME_FRAME_S = 0.001


def decode_video(path: str, scan: Scan, times_s: Sequence[float], size: tuple[int, int] | None) -> Iterator[np.ndarray]:
    """As avst.media.pyav_decoder.decode_video; damage is reported only as far as torchcodec reports it."""
    try:
        reader = VideoDecoder(path, stream_index=scan.video, dimension_order="NHWC", num_ffmpeg_threads=THREADS)
    except (RuntimeError, ValueError) as error:
        raise _refusal(path, "cannot open it", error) from error
    origin = float(scan.origin_s)
    for t in times_s:
        # Asked for by the frame's own time: torchcodec's idea of what is on screen leans on packets' durations.
        due = scan.shown_s[max(bisect_right(scan.shown_s, t + PTS_SLACK_S) - 1, 0)]
        try:
            frame = reader.get_frame_played_at(due + origin + PTS_SLACK_S)
        except (RuntimeError, IndexError) as error:
            raise _refusal(path, f"cannot read the frame at {t:.3f} s", error) from error
        if abs(frame.pts_seconds - origin - due) > SAME_FRAME_S:
            raise MediaError(
                f"{path}: torchcodec gives the frame of {frame.pts_seconds - origin:.3f} s for that of {due:.3f} s"
            )
        yield to_rgb(VideoFrame.from_ndarray(np.ascontiguousarray(frame.data.numpy()), "rgb24"), size)


def decode_audio(path: str, scan: Scan, rate: int, channels: Channels) -> np.ndarray | None:
    """As avst.media.pyav_decoder.decode_audio, but pauses inside the track are closed up, as torchcodec has them."""
    if scan.audio is None:
        return None
    try:
        sound = AudioDecoder(path, stream_index=scan.audio).get_all_samples()
    except (RuntimeError, ValueError) as error:
        raise _refusal(path, "cannot read the sound", error) from error
    samples = sound.data.numpy()
    timeline = Timeline(path, sound.sample_rate, rate, samples.shape[0], channels)
    timeline.add(samples, sound.pts_seconds - float(scan.origin_s))
    return timeline.finish(scan.info.audio_end_s)


def _refusal(path: str, what: str, error: Exception) -> MediaError:
    text = str(error).strip()
    if "Could not load libtorchcodec" in text:
        return MediaError("the decoder torchcodec cannot be used here: it finds no FFmpeg libraries that fit it")
    return MediaError(f"{path}: torchcodec {what} ({(text.splitlines() or [type(error).__name__])[0][:200]})")
