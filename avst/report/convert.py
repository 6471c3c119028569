"""`python -m avst.report.convert SOURCE TARGET.mp4`: H.264 and AAC, which every browser plays; times stay the same.

A process of its own, because a decoder may crash or hang on a bad file.
"""

from __future__ import annotations

import sys
from fractions import Fraction
from typing import Any

import av

from avst.media.scan import scan
from avst.media.source import open_media

TICKS = 90000  # a second; the usual clock of video


def convert(source: str, target: str) -> None:
    """Write `source` again. A frame keeps its second on the clip's clock (avst.media.clock), so that boxes stay where
    they are. Raises MediaError or av.FFmpegError."""
    found = scan(source)
    info = found.info
    with open_media(source) as reader, av.open(target, "w", options={"movflags": "+faststart"}) as writer:
        picture: Any = writer.add_stream("libx264", rate=Fraction(info.fps or 25).limit_denominator(1001))
        picture.width, picture.height = info.width - info.width % 2, info.height - info.height % 2
        picture.pix_fmt, picture.options = "yuv420p", {"preset": "veryfast", "crf": "23"}
        picture.codec_context.time_base = Fraction(1, TICKS)
        sound: Any = None
        if found.audio is not None:
            sound = writer.add_stream("aac", rate=48000, layout="stereo")
        resampler = av.AudioResampler("fltp", "stereo", 48000)
        streams = [reader.streams[i] for i in (found.video, found.audio) if i is not None]
        last = -1
        for packet in reader.demux(*streams):
            for frame in _decoded(packet):
                at = None if frame.pts is None else frame.pts * frame.time_base - found.origin_s
                if isinstance(frame, av.VideoFrame):
                    last = max(last + 1, round(at * TICKS) if at is not None else last + 1)
                    _write_picture(writer, picture, frame, last, info.rotation)
                elif sound is not None:
                    if at is not None:
                        frame.pts = round(at / frame.time_base)
                    for piece in resampler.resample(frame):
                        writer.mux(sound.encode(piece))
        writer.mux(picture.encode(None))
        if sound is not None:
            writer.mux(sound.encode(None))


def _decoded(packet: Any) -> list[Any]:
    try:
        return list(packet.decode())
    except av.FFmpegError:  # a damaged picture is left out, as players do
        return []


def _write_picture(writer: Any, stream: Any, frame: Any, at: int, rotation: int) -> None:
    if round(rotation / 90) % 4:
        from avst.media.pyav_decoder import to_rgb

        frame = av.VideoFrame.from_ndarray(to_rgb(frame, None, rotation), format="rgb24")
    out = frame.reformat(width=stream.width, height=stream.height, format="yuv420p")
    out.pts, out.time_base, out.pict_type = at, Fraction(1, TICKS), av.video.frame.PictureType.NONE
    writer.mux(stream.encode(out))


if __name__ == "__main__":
    convert(sys.argv[1], sys.argv[2])
