"""Files that are whole and yet odd: no frame rate, durations that lie, frames of several sizes, any kind of sound."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from avst.media import MediaError, MediaSettings, load_clip, probe
from avst.media.scan import scan
from tests.media.make_media import Film, numbers_of, picture, tone, write

RATE = 16000


def test_a_rate_of_zero_is_no_matter(tmp_path: Path) -> None:
    """Two frames of no stated rate: the container's average is 0/0, and their own times say all that is needed."""
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w", options={"live": "1"}) as out:  # no duration either
        video = out.add_stream("ffv1", rate=1)
        video.width, video.height, video.pix_fmt = 160, 64, "bgr0"
        video.codec_context.time_base = video.time_base = Fraction(1, 1000)
        for number, at in ((3, 0), (9, 1300)):
            frame = av.VideoFrame.from_ndarray(picture(number, 160, 64), "rgb24").reformat(format="bgr0")
            frame.pts, frame.time_base = at, Fraction(1, 1000)
            out.mux(video.encode(frame))
        out.mux(video.encode())
    data = path.read_bytes()
    at = data.find(b"\x23\xe3\x83")  # Matroska's DefaultDuration: its 7 bytes become an element to pass over
    n = data[at + 3] & 0x7F
    path.write_bytes(data[:at] + b"\xec" + bytes([0x80 | (n + 2)]) + bytes(n + 2) + data[at + 4 + n :])
    assert probe(path).fps == 0
    assert numbers_of(load_clip(path, MediaSettings(fps=2.0)).frames)[:4] == [3, 3, 3, 9]


def test_a_raw_stream_has_neither_times_nor_rate(tmp_path: Path) -> None:
    """H.264 without a container: frames lie at the rate that FFmpeg takes for it."""
    path = write(tmp_path / "a.h264", Film([i / 25 for i in range(50)], options={"g": "10", "crf": "12", "bf": "0"}))
    info = probe(path)
    assert info.n_frames == 50
    assert numbers_of(load_clip(path, MediaSettings(fps=info.fps)).frames) == list(range(50))


def test_a_header_without_a_duration(tmp_path: Path) -> None:
    """As browsers write them: the packets say how long it is."""
    path = write(tmp_path / "a.mkv", Film(), options={"live": "1"})
    with av.open(str(path)) as container:
        assert container.duration is None
    assert probe(path).duration_s == pytest.approx(4.0, abs=0.002)
    assert numbers_of(load_clip(path).frames) == [0, 12, 25, 37, 50, 62, 75, 87]


@pytest.mark.parametrize("said_s", [10_000.0, 1.0])
def test_a_duration_that_lies(tmp_path: Path, said_s: float) -> None:
    """More than there is: cut off, in one line, and no 20,000 frames are asked for. Less: the packets are believed."""
    path = write(tmp_path / "a.mkv", Film())
    data = bytearray(path.read_bytes())
    at = data.index(b"\x44\x89\x88")  # Matroska's Duration, a float64 of milliseconds
    data[at + 3 : at + 11] = struct.pack(">d", said_s * 1000)
    path.write_bytes(data)
    if said_s > 4:
        with pytest.raises(MediaError, match=r"a\.mkv: cut off at 4\.000 s; its header promises 10000\.0"):
            load_clip(path)
    else:
        assert numbers_of(load_clip(path).frames) == [0, 12, 25, 37, 50, 62, 75, 87]


def test_frames_that_change_their_size_come_at_one_size(tmp_path: Path) -> None:
    """Two films behind each other in one stream (MPEG-TS lets that happen): all at the first one's size."""
    parts = [
        write(
            tmp_path / f"{size[0]}.h264", Film([i / 25 for i in range(25)], size=size, options={"g": "25", "bf": "0"})
        )
        for size in ((160, 120), (320, 180))
    ]
    path = tmp_path / "a.h264"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    clip = load_clip(path, MediaSettings(fps=5.0))
    assert clip.frames.shape == (10, 120, 160, 3)
    assert numbers_of(clip.frames) == [0, 5, 10, 15, 20, 0, 5, 10, 15, 20]
    assert load_clip(path, MediaSettings(fps=5.0, size=(80, 60))).frames.shape == (10, 60, 80, 3)


@pytest.mark.parametrize(
    ("layout", "rate", "codec"), [("mono", 96000, "pcm_s16le"), ("5.1", 48000, "flac"), ("stereo", 8000, "pcm_s16le")]
)
def test_sound_of_every_layout_and_rate_becomes_mono_at_the_models_rate(
    tmp_path: Path, layout: str, rate: int, codec: str
) -> None:
    """One tone in all channels, one second longer than the picture and half a second late."""
    path = tmp_path / "a.mkv"
    n = av.AudioLayout(layout).nb_channels
    sound = np.repeat(tone(440, 4.5, rate)[None], n, axis=0)
    with av.open(str(path), "w") as out:
        video = out.add_stream("ffv1", rate=25)
        video.width, video.height, video.pix_fmt = 32, 32, "bgr0"
        audio = out.add_stream(codec, rate=rate, layout=layout)
        for i in range(100):
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), "rgb24").reformat(format="bgr0")
            frame.pts = i
            out.mux(video.encode(frame))
        out.mux(video.encode())
        convert = av.AudioResampler(format=audio.codec_context.format.name, layout=layout, rate=rate)
        for at in range(0, sound.shape[1], 1000):
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound[:, at : at + 1000]), "fltp", layout)
            frame.sample_rate, frame.pts, frame.time_base = rate, at + rate // 2, Fraction(1, rate)
            for converted in convert.resample(frame):
                out.mux(audio.encode(converted))
        out.mux(audio.encode())
    assert (scan(path).info.audio_channels, probe(path).audio_rate) == (n, rate)
    heard = load_clip(path).audio
    assert heard.shape == pytest.approx((5.0 * RATE,), abs=40)
    want = np.concatenate([np.zeros(RATE // 2, np.float32), tone(440, 4.5, RATE)])
    middle = slice(int(0.7 * RATE), int(4.8 * RATE))
    np.testing.assert_allclose(heard[middle], want[middle], atol=0.01)
    assert np.abs(heard[: int(0.45 * RATE)]).max() < 0.01
