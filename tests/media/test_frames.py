"""Which frames are taken: numbers read out of the pictures against times computed here."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from avst.media import MediaSettings, load_clip, probe
from avst.media.pyav_decoder import decode_video
from avst.media.scan import scan
from tests.media.make_media import Film, number_of, numbers_of, picture, write

UNEVEN = [0.0, 0.1, 0.9, 1.0, 1.4, 2.6, 2.65, 3.9]


def shown(starts: list[float], times: list[float]) -> list[int]:
    """Index of the last start <= t, the first frame before any."""
    return [max((i for i, s in enumerate(starts) if s <= t + 1e-9), default=0) for t in times]


def test_constant_rate_at_two_frames_a_second(film) -> None:
    clip = load_clip(film())
    assert clip.times_s.tolist() == [0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5]
    assert numbers_of(clip.frames) == [0, 12, 25, 37, 50, 62, 75, 87]
    assert (clip.fps, clip.source_size, clip.duration_s) == (2.0, (160, 120), 4.0)
    assert clip.audio is None


@pytest.mark.parametrize("ending", ["mp4", "mkv", "mov"])
@pytest.mark.parametrize("fps", [0.7, 2.0, 7.0, 25.0])
def test_variable_rate(film, ending: str, fps: float) -> None:
    clip = load_clip(film(f"a.{ending}", times_s=UNEVEN, last_s=0.5), MediaSettings(fps=fps))
    times = [k / fps for k in range(len(clip.times_s))]
    np.testing.assert_allclose(clip.times_s, times)
    assert clip.duration_s == pytest.approx(4.4, abs=0.11)  # Matroska keeps no duration of the last frame
    assert numbers_of(clip.frames) == shown(UNEVEN, times)


@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts"])
def test_start_offset_is_taken_off(film, ending: str) -> None:
    path = film(f"a.{ending}", times_s=[5 + t for t in UNEVEN], last_s=0.5)
    clip = load_clip(path, MediaSettings(fps=4))
    assert numbers_of(clip.frames) == shown(UNEVEN, [k / 4 for k in range(len(clip.times_s))])
    assert probe(path).video_start_s == 0


def test_picture_that_starts_after_the_sound(film) -> None:
    late = [1.0 + i / 25 for i in range(50)]
    path = film(times_s=late, sound=np.zeros((1, 3 * 48000), np.float32))
    clip = load_clip(path)
    info = probe(path)
    assert (info.video_start_s, info.video_end_s) == (pytest.approx(1.0, abs=0.002), pytest.approx(3.0, abs=0.002))
    assert numbers_of(clip.frames) == shown(late, clip.times_s.tolist())


def test_sound_that_outlasts_the_picture_adds_no_frames(film) -> None:
    clip = load_clip(film(sound=np.zeros((1, 6 * 48000), np.float32)))
    assert clip.duration_s == pytest.approx(6.0, abs=0.03)
    assert clip.times_s[-1] == 3.5


def test_one_frame_is_held_for_two(film) -> None:
    clip = load_clip(film(times_s=[0.0]))
    assert numbers_of(clip.frames) == [0, 0]
    assert clip.times_s.tolist() == [0.0, 0.5]
    assert clip.duration_s == pytest.approx(0.04)


def test_odd_number_is_made_even_by_holding_the_last(film) -> None:
    clip = load_clip(film(times_s=[i / 25 for i in range(30)]))  # 1.2 s: 0, 0.5, 1.0
    assert clip.times_s.tolist() == [0, 0.5, 1.0, 1.5]
    assert numbers_of(clip.frames) == [0, 12, 25, 29]


def test_max_frames_slows_the_clock_evenly(film) -> None:
    clip = load_clip(film(), MediaSettings(fps=10, max_frames=7))
    assert clip.fps == pytest.approx(6 / 4)
    np.testing.assert_allclose(clip.times_s, [0, 2 / 3, 4 / 3, 2, 8 / 3, 10 / 3])
    assert numbers_of(clip.frames) == [int(t * 25 + 1e-9) for t in clip.times_s]


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_skipping_ahead_by_keyframes_gives_the_same_frames(tmp_path: Path, ending: str) -> None:
    """A film of 40 s with a keyframe each second, sampled every 5.7 s: decoded through, and by seeking."""
    times = [3 + i / 25 for i in range(1000)]
    path = str(write(tmp_path / f"a.{ending}", Film(times, options={"g": "25", "bf": "3"}, size=(80, 60))))
    asked = [k * 5.7 for k in range(7)]
    found = scan(path)
    assert found.seekable
    seeking = numbers_of(np.stack(list(decode_video(path, found, asked, None))))
    assert seeking == [int(t * 25 + 1e-9) for t in asked]


def test_a_seek_that_lands_wrong_is_mended(tmp_path: Path) -> None:
    """Keyframe times that are not in the file: the reader notices and reads on from the start."""
    from dataclasses import replace

    path = str(write(tmp_path / "a.mp4", Film([i / 25 for i in range(500)], options={"g": "25"}, size=(80, 60))))
    found = scan(path)
    wrong = replace(found, keyframes_s=[s + 0.02 for s in found.keyframes_s])
    asked = [0.0, 6.1, 13.3]
    assert numbers_of(np.stack(list(decode_video(path, wrong, asked, None)))) == [0, 152, 332]


def test_size_is_that_of_the_displayed_picture(film) -> None:
    clip = load_clip(film(), MediaSettings(size=(56, 28)))
    assert clip.frames.shape == (8, 28, 56, 3)
    assert numbers_of(clip.frames) == [0, 12, 25, 37, 50, 62, 75, 87]
    assert clip.source_size == (160, 120)


def test_resizing_keeps_colours_in_place(tmp_path: Path) -> None:
    """A lossless film with red on the left half and blue on the right: RGB order and orientation."""
    path = tmp_path / "a.mkv"
    pixels = np.zeros((64, 96, 3), np.uint8)
    pixels[:, :48, 0] = 255
    pixels[:, 48:, 2] = 255
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "bgr0"
        for i in range(10):
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24").reformat(format="bgr0")
            frame.pts = i
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    same = load_clip(path).frames[0]
    np.testing.assert_array_equal(same, pixels)
    small = load_clip(path, MediaSettings(size=(48, 32))).frames[0]
    np.testing.assert_array_equal(small[:, :20], np.broadcast_to([255, 0, 0], (32, 20, 3)))
    np.testing.assert_array_equal(small[:, 28:], np.broadcast_to([0, 0, 255], (32, 20, 3)))


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_rotation_is_undone_counter_clockwise(film, rotation: int) -> None:
    path = film(rotation=rotation)
    upright = load_clip(path)
    turned_back = np.rot90(upright.frames, -rotation // 90, axes=(1, 2))
    assert numbers_of(turned_back) == [0, 12, 25, 37, 50, 62, 75, 87]
    expected = (160, 120) if rotation == 180 else (120, 160)
    assert upright.source_size == expected
    assert (probe(path).width, probe(path).height) == expected
    resized = load_clip(path, MediaSettings(size=(60, 80)))
    assert numbers_of(np.rot90(resized.frames, -rotation // 90, axes=(1, 2))) == [0, 12, 25, 37, 50, 62, 75, 87]


@pytest.mark.parametrize(
    ("codec", "pixels", "size"),
    [
        ("libx264", "yuv444p10le", (161, 121)),
        ("libx264", "yuvj420p", (160, 120)),
        ("ffv1", "gray", (161, 121)),
        ("ffv1", "bgra", (33, 17)),
        ("libvpx-vp9", "yuv420p", (160, 120)),
    ],
)
def test_pixel_formats_and_odd_sizes(film, codec: str, pixels: str, size: tuple[int, int]) -> None:
    options = {"g": "12", "crf": "12"} if codec == "libx264" else {}
    clip = load_clip(film("a.mkv", codec=codec, pixels=pixels, size=size, options=options))
    assert numbers_of(clip.frames) == [0, 12, 25, 37, 50, 62, 75, 87]
    expected = picture(87, *size).astype(int)
    assert np.abs(clip.frames[-1].astype(int) - expected).mean() < 12


def test_probe_tells_what_was_made(film) -> None:
    info = probe(film(times_s=[i / 25 for i in range(100)], sound=np.zeros((2, 192000), np.float32)))
    assert (info.width, info.height, info.fps, info.n_frames, info.video_codec) == (160, 120, 25.0, 100, "h264")
    assert (info.has_audio, info.audio_rate, info.audio_channels, info.audio_codec) == (True, 48000, 2, "aac")
    assert info.duration_s == pytest.approx(4.0, abs=0.03)


def test_numbers_can_be_read() -> None:
    assert [number_of(picture(n, 160, 120)) for n in (0, 1, 77, 1023)] == [0, 1, 77, 1023]
