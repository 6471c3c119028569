"""Every kind of bad file: one clear line that names the file and the cause, and the worker lives on."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from avst.errors import AvstError
from avst.media import MediaError, MediaSettings, load_clip, probe
from tests.media.make_media import Film, numbers_of, tone, write


def message(path: Path, **settings: Any) -> str:
    with pytest.raises(MediaError) as caught:
        load_clip(path, MediaSettings(**settings))
    text = str(caught.value)
    assert "\n" not in text
    assert str(path) in text
    return text


def test_missing_empty_folder_pipe(tmp_path: Path) -> None:
    assert "No such file" in message(tmp_path / "a.mp4")
    (tmp_path / "b.mp4").write_bytes(b"")
    assert "empty" in message(tmp_path / "b.mp4")
    (tmp_path / "c.mp4").mkdir()
    assert "not an ordinary file" in message(tmp_path / "c.mp4")
    os.mkfifo(tmp_path / "d.mp4")  # opening one would block for ever
    assert "not an ordinary file" in message(tmp_path / "d.mp4")


@pytest.mark.parametrize(
    "text",
    [
        "hello, I am no video\n" * 50,
        "#EXTM3U\n#EXTINF:4,\nother.mp4\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile other.mp4\n",
        "1\n00:00:00,000 --> 00:00:04,000\nsubtitle\n",
    ],
)
def test_text_and_playlists_are_no_videos(tmp_path: Path, text: str) -> None:
    """A playlist called .mp4 must not make us open what it lists."""
    write(tmp_path / "other.mp4", Film())
    (tmp_path / "a.mp4").write_text(text)
    assert "a text file, not a video" in message(tmp_path / "a.mp4")


def test_noise_and_zeros(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(random.Random(0).randbytes(5000))
    assert "header is damaged or missing" in message(tmp_path / "a.mp4")
    (tmp_path / "b.mp4").write_bytes(bytes(5000))
    assert "zero bytes" in message(tmp_path / "b.mp4")


def test_damaged_header(film) -> None:
    path = film()
    data = bytearray(path.read_bytes())
    at = data.index(b"moov")
    data[at : at + 400] = bytes(400)
    path.write_bytes(data)
    assert "header is damaged or missing" in message(path)


def test_cut_off_before_the_index(film) -> None:
    path = film()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "header is damaged or missing" in message(path)


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_cut_off_behind_the_index_names_the_time(tmp_path: Path, ending: str) -> None:
    options = {"options": {"movflags": "faststart"}} if ending == "mp4" else {}
    path = write(tmp_path / f"a.{ending}", Film([i / 25 for i in range(500)], size=(320, 240)), **options)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    text = message(path)
    assert "cut off at" in text
    said = float(text.split("cut off at ")[1].split(" s")[0])
    assert 10 < said < 14
    assert "promises 20.0" in text


def damaged_at(path: Path, second: float, n: int) -> Path:
    """Overwrite the middle of the packet shown at `second` with noise."""
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(video=0) if p.pts is not None]
        packet = min(packets, key=lambda p: abs(p.pts * p.time_base - second))
        start, size = packet.pos, packet.size
    data = bytearray(path.read_bytes())
    n = min(n, size - 10)
    data[start + 8 : start + 8 + n] = random.Random(1).randbytes(n)
    path.write_bytes(data)
    return path


def test_damage_in_the_middle_names_the_time(film) -> None:
    """Keyframes every second; the one of 2 s is destroyed: frames up to 3 s cannot be trusted."""
    path = film(times_s=[i / 25 for i in range(125)], options={"g": "25", "crf": "12"})
    assert "the frame at 2.000 s is unreadable" in message(damaged_at(path, 2.0, 300))


def test_damage_that_no_asked_frame_depends_on_is_no_matter(film) -> None:
    path = film(times_s=[i / 25 for i in range(125)], options={"g": "10", "crf": "12", "bf": "0", "sc_threshold": "0"})
    damaged_at(path, 0.72, 300)  # in the group of pictures 0.4 … 0.8 s; asked are 0, 0.5, 1.0 …
    with_care = load_clip(path, MediaSettings(fps=1.0))
    assert numbers_of(with_care.frames) == [0, 25, 50, 75, 100, 124]
    assert "the frame at 0.750 s is unreadable" in message(path, fps=4.0)


def test_wild_time_stamps_do_not_ask_for_all_the_memory(film) -> None:
    text = message(film("a.mkv", times_s=[0.0, 1.0, 400_000.0]))
    assert "time stamps span 111 hours" in text


def test_more_frames_than_memory_is_said(film, monkeypatch: pytest.MonkeyPatch) -> None:
    from avst.media import load

    path = film()
    monkeypatch.setattr(load.os, "sysconf", lambda name: 100)  # a machine of 10,000 bytes
    assert "no memory for 8 frames of 160x120 px" in message(path)


def test_no_video_stream(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("aac", rate=48000, layout="mono")
        frame = av.AudioFrame.from_ndarray(tone(440, 1, 48000)[None], "fltp", "mono")
        frame.sample_rate = 48000
        out.mux(stream.encode(frame))
        out.mux(stream.encode())
    assert "no video stream" in message(path)


def test_no_frame(tmp_path: Path) -> None:
    """A header with a video stream of zero duration and nothing in it."""
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 160, 120, "yuv420p"
        sound = out.add_stream("pcm_s16le", rate=48000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4800), np.int16), "s16", "mono")
        frame.sample_rate = 48000
        out.mux(sound.encode(frame))
    text = message(path)
    assert "holds no frame" in text or "no frame size" in text


def test_random_damage_never_does_more_than_refuse(film) -> None:
    """Forty films with noise somewhere: each is decoded whole or refused in one line; one worker serves them all."""
    path = film(sound=tone(440, 4, 48000)[None])
    whole = path.read_bytes()
    rng = random.Random(7)
    for _ in range(40):
        data = bytearray(whole)
        for _ in range(rng.choice([1, 3])):
            at = rng.randrange(len(data))
            data[at : at + rng.choice([1, 16, 200])] = rng.randbytes(rng.choice([1, 16, 200]))
        path.write_bytes(data)
        said = ""
        try:
            assert len(load_clip(path).times_s) >= 2
        except MediaError as error:
            said = str(error)
        assert said == "" or ("\n" not in said and str(path) in said)


def test_the_worker_lives_on_after_an_error(film, tmp_path: Path) -> None:
    from avst.media import process

    good = film("good.mp4")
    load_clip(good)
    before = [worker.child.pid for worker in process._idle]
    (tmp_path / "bad.mp4").write_text("no")
    message(tmp_path / "bad.mp4")
    load_clip(good)
    assert [worker.child.pid for worker in process._idle] == before


def test_probe_says_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("no video at all")
    with pytest.raises(MediaError, match="a text file, not a video"):
        probe(tmp_path / "a.mp4")


@pytest.mark.parametrize(
    "wrong",
    [
        {"fps": 0},
        {"fps": float("nan")},
        {"max_frames": 1},
        {"size": (0, 10)},
        {"audio_rate": 1},
        {"channels": "stereo"},
        {"decoder": "opencv"},
        {"deadline_s": 0},
        {"cache_gb": -1},
    ],
)
def test_settings_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(AvstError, match=next(iter(wrong))):
        MediaSettings(**wrong)
