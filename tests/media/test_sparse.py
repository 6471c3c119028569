"""Frames that nobody asked for and nothing refers to are not decoded: the others are what a full decode gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from avst.media import MediaError, MediaSettings, load_clip, pyav_decoder
from avst.media.pyav_decoder import _Reader, decode_video
from avst.media.scan import scan
from tests.media.make_media import Film, numbers_of, write

TIMES = [i / 25 for i in range(150)]


def moving(path: Path, codec: str, options: dict[str, str], n: int = 150, size: tuple[int, int] = (96, 64)) -> Path:
    """A film in which every picture differs from the last one everywhere, so that a wrong reference would show."""
    rng = np.random.default_rng(0)
    field = np.kron(rng.integers(0, 256, (16, 40, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    with av.open(str(path), "w") as out:
        video = out.add_stream(codec, rate=25)
        video.width, video.height, video.pix_fmt, video.options = *size, "yuv420p", options
        if "bf" in options:
            video.codec_context.max_b_frames = int(options["bf"])
        for i in range(n):
            frame = np.ascontiguousarray(field[i % 50 : i % 50 + size[1], i : i + size[0]])
            out.mux(video.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        out.mux(video.encode())
    return path


def both(path: Path, times_s: list[float], monkeypatch: pytest.MonkeyPatch) -> tuple[np.ndarray, np.ndarray]:
    """Frames decoded sparsely, and with every frame decoded."""
    found = scan(path)
    sparse = np.stack(list(decode_video(str(path), found, times_s, None)))
    with monkeypatch.context() as patched:
        patched.setattr(pyav_decoder, "PASSES_OVER", set())
        full = np.stack(list(decode_video(str(path), found, times_s, None)))
    return sparse, full


def n_decoded(path: Path, fps: float) -> tuple[int, bool]:
    """How many frames a reading gives out, and whether it stayed sparse."""
    found = scan(path)
    reader = _Reader(str(path), found, np.arange(0, found.info.video_end_s, 1 / fps).tolist())
    return sum(1 for _ in reader), reader.sparse


@pytest.mark.parametrize("fps", [1.3, 2.0, 9.0])
@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts"])
@pytest.mark.parametrize(
    "options",
    [
        {"g": "60", "bf": "3"},
        {"g": "60", "bf": "8", "x264-params": "b-adapt=0:b-pyramid=strict"},
        {"g": "30", "bf": "3", "x264-params": "open-gop=1:b-pyramid=none:direct=temporal"},
        {"g": "30", "bf": "0"},
        {"g": "30", "bf": "3", "x264-params": "slices=3:intra-refresh=1"},
    ],
)
def test_h264_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, options: dict[str, str], fps: float
) -> None:
    path = moving(tmp_path / f"a.{ending}", "libx264", options)
    sparse, full = both(path, [k / fps for k in range(int(6 * fps))], monkeypatch)
    np.testing.assert_array_equal(sparse, full)
    assert not np.array_equal(sparse[0], sparse[1])


@pytest.mark.parametrize(
    ("codec", "ending"),
    [("mpeg4", "mp4"), ("mpeg4", "avi"), ("mpeg2video", "ts"), ("mpeg2video", "mkv"), ("libx265", "mp4")],
)
def test_other_codecs_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codec: str, ending: str) -> None:
    path = moving(tmp_path / f"a.{ending}", codec, {"g": "12", "bf": "2"})
    sparse, full = both(path, [k / 3 for k in range(18)], monkeypatch)
    np.testing.assert_array_equal(sparse, full)


def test_frames_are_left_out_where_they_may_be(tmp_path: Path) -> None:
    """Of a run P b B b the b are decoded where they are asked for only."""
    path = moving(tmp_path / "a.mp4", "libx264", {"g": "60", "bf": "3", "x264-params": "b-adapt=0:scenecut=0"})
    n, stayed_sparse = n_decoded(path, 1.0)
    assert stayed_sparse
    assert 75 <= n <= 85  # 75 are no b, 6 are asked for
    assert n_decoded(path, 25.0) == (150, True)  # each was asked for


def test_interlaced_films_are_decoded_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A frame's two fields may come in two packets, of which one has the time that was asked for."""
    path = moving(tmp_path / "a.mp4", "libx264", {"g": "30", "bf": "3", "x264-params": "tff=1"})
    assert n_decoded(path, 2.0) == (150, False)
    sparse, full = both(path, [k / 2 for k in range(12)], monkeypatch)
    np.testing.assert_array_equal(sparse, full)


def test_an_asked_frame_that_does_not_come_is_read_again(film, monkeypatch: pytest.MonkeyPatch) -> None:
    """A decoder that drops every frame it may, asked for or not: noticed, and every frame is decoded instead."""
    path = film(times_s=TIMES, options={"g": "50", "bf": "3", "crf": "12"})
    plain = _Reader._frames

    def drops(self: _Reader, container: Any, stream: Any):
        for frame in plain(self, container, stream):
            if not (self.sparse and av.video.frame.PictureType(frame.pict_type).name == "B"):
                yield frame

    monkeypatch.setattr(_Reader, "_frames", drops)
    reader = _Reader(str(path), scan(path), [0.12, 0.16, 0.2])
    seconds = [at for at, _ in reader]
    assert not reader.sparse
    assert seconds == sorted(set(seconds))  # what had been given out already is not given again
    assert seconds[-147:] == pytest.approx(TIMES[3:])


def test_variable_rate_and_a_late_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    starts = [5 + t for t in np.cumsum([0.04, 0.2, 0.01, 0.3, 0.02] * 20).tolist()]
    path = write(tmp_path / "a.mkv", Film(starts, options={"g": "40", "bf": "3", "crf": "12"}))
    times = [k / 7 for k in range(60)]
    sparse, full = both(path, times, monkeypatch)
    np.testing.assert_array_equal(sparse, full)
    first = starts[0]
    due = [max(i for i, s in enumerate(starts) if round((s - first) * 1000) <= t * 1000 + 1e-3) for t in times]
    assert numbers_of(sparse) == due


def test_a_damaged_frame_nobody_needs_is_no_matter(film) -> None:
    """Noise in a B-frame of no reference between two asked frames; where it is asked for itself, it is refused."""
    path = film(times_s=TIMES, options={"g": "150", "bf": "1", "crf": "12", "x264-params": "b-adapt=0:scenecut=0"})
    whole = load_clip(path, MediaSettings(fps=1.0)).frames
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(video=0) if p.pts is not None]
    shown = sorted(packets, key=lambda p: p.pts)
    idle = min(shown[26:30], key=lambda p: p.size)
    data = bytearray(path.read_bytes())
    data[idle.pos + 6 : idle.pos + 14] = b"\xaa" * 8  # behind the length and the header of its first slice
    path.write_bytes(data)
    np.testing.assert_array_equal(load_clip(path, MediaSettings(fps=1.0)).frames, whole)
    with pytest.raises(MediaError, match=r"a\.mp4: the frame at 1\.\d+ s is unreadable"):
        load_clip(path, MediaSettings(fps=25.0))
