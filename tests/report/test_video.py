"""Videos of a report: linked, copied, left out, converted; and the waveform."""

from __future__ import annotations

import shutil
from fractions import Fraction
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import av
import numpy as np
import pytest

from avst.media import load_clip, probe
from avst.media.settings import MediaInfo, MediaSettings
from avst.report import video
from avst.report.sound import waveform
from avst.report.video import plays, prepare, relative_url
from avst.scenes.synthesise import Synthesised


def info(path: str, video_codec: str = "h264", audio_codec: str = "aac") -> MediaInfo:
    return MediaInfo(path, 64, 48, 0, 1.0, 0.0, 1.0, 25.0, 25, video_codec, bool(audio_codec), audio_codec=audio_codec)


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        (info("a.mp4"), True),
        (info("a.MP4", "av1", "opus"), True),
        (info("a.webm", "vp9", ""), True),
        (info("a.avi"), False),
        (info("a.mp4", "mpeg4"), False),
        (info("a.mp4", "hevc"), False),
        (info("a.mov", "h264", "pcm_s16le"), False),
    ],
)
def test_what_browsers_play(found: MediaInfo, wanted: bool) -> None:
    assert plays(found) is wanted


def ready(scenes: Synthesised, folder: Path, media: Any, videos: Path | None = None) -> tuple[Any, Path | None]:
    name = next(scenes.videos.glob("*.mp4")).stem
    folder.mkdir(exist_ok=True)
    return prepare(videos or scenes.videos, name, 3, folder, folder, media, lambda line: None)


def test_a_link_leads_from_the_report_to_the_file(scenes: Synthesised, tmp_path: Path) -> None:
    folder = tmp_path / "a report"
    shown, outside = ready(scenes, folder, "link")
    assert outside is not None
    assert (folder / unquote(shown.link)).resolve() == outside
    assert shown.served == "media/3.mp4"
    assert not (folder / "media").exists()
    odd = tmp_path / "50% of #1?.mp4"
    assert relative_url(odd, folder) == "../50%25%20of%20%231%3F.mp4"


def test_a_copy_and_none(scenes: Synthesised, tmp_path: Path) -> None:
    shown, outside = ready(scenes, tmp_path / "c", "copy")
    assert outside is None
    assert shown.link == shown.served == "media/3.mp4"
    assert (tmp_path / "c" / "media" / "3.mp4").read_bytes() == next(scenes.videos.glob("*.mp4")).read_bytes()
    shown, outside = ready(scenes, tmp_path / "n", "none")
    assert (shown.link, outside) == (None, None)
    assert shown.width > 0  # boxes still have their frame
    assert shown.waveform is not None


def test_a_video_that_is_gone_is_a_reason(scenes: Synthesised, tmp_path: Path) -> None:
    shown, _ = ready(scenes, tmp_path / "g", "link", videos=tmp_path)
    assert shown.link is None
    assert "no such video" in shown.error
    assert "--videos" in shown.error
    shown, _ = prepare(None, "x", 0, tmp_path, tmp_path, "link", lambda line: None)
    assert "names no folder" in shown.error


def make_old_video(path: Path, start: float = 0.0) -> None:
    """MPEG-4 part 2 in AVI with MP3: what the web has forgotten. Second s is grey level 40 + 40 s; a tone from 1 s."""
    with av.open(str(path), "w") as out:
        picture: Any = out.add_stream("mpeg4", rate=10)
        picture.width, picture.height, picture.pix_fmt = 64, 48, "yuv420p"
        sound: Any = out.add_stream("mp3", rate=44100)
        for i in range(40):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 40 + 40 * (i // 10), np.uint8), format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, 10)
            out.mux(picture.encode(frame))
        t = np.arange(4 * 44100) / 44100
        wave = (0.5 * np.sin(2 * np.pi * 440 * t) * (t >= 1)).astype(np.float32)
        for at in range(0, wave.size, 1152):
            block = av.AudioFrame.from_ndarray(wave[None, at : at + 1152], format="fltp", layout="mono")
            block.sample_rate, block.pts, block.time_base = 44100, at, Fraction(1, 44100)
            out.mux(sound.encode(block))
        out.mux(picture.encode(None))
        out.mux(sound.encode(None))


def test_what_no_browser_plays_is_converted_and_keeps_its_times(tmp_path: Path) -> None:
    make_old_video(tmp_path / "old.avi")
    said: list[str] = []
    shown, outside = prepare(tmp_path, "old", 0, tmp_path, tmp_path, "link", said.append)
    assert shown.error is None
    assert outside is None
    assert shown.link == shown.served == "media/0.mp4"
    assert said == ["old.avi: no browser plays mpeg4 in .avi; converted to H.264"]
    new = probe(tmp_path / "media" / "0.mp4")
    assert plays(new)
    assert (new.width, new.height) == (64, 48)
    assert new.duration_s == pytest.approx(4.0, abs=0.15)
    settings = MediaSettings(fps=10.0, audio_rate=16000)
    old, again = (load_clip(p, settings) for p in (tmp_path / "old.avi", tmp_path / "media" / "0.mp4"))
    levels = [[int(frame.mean()) for frame in clip.frames[:40]] for clip in (old, again)]
    assert {40, 80, 120, 160} <= {round(v / 40) * 40 for v in levels[0]}  # the source does change
    assert levels[1] == pytest.approx(levels[0], abs=4)  # at every tenth of a second
    assert old.audio is not None
    assert again.audio is not None
    onsets = [int(np.argmax(np.abs(clip.audio) > 0.2)) / 16000 for clip in (old, again)]
    assert onsets[1] == pytest.approx(onsets[0], abs=0.03)
    assert 0.9 < onsets[0] < 1.2


def test_a_conversion_that_fails_is_a_reason(
    scenes: Synthesised, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = next(scenes.videos.glob("*.mp4"))
    (tmp_path / "v").mkdir()
    shutil.copy(source, tmp_path / "v" / "bad.mkv")
    monkeypatch.setattr(video, "CONVERSION_S", 0.001)
    shown, _ = prepare(tmp_path / "v", "bad", 0, tmp_path, tmp_path, "link", lambda line: None)
    assert shown.link is None
    assert "could not be converted" in shown.error


def test_a_waveform_has_the_loudest_and_the_mean_level_of_each_piece() -> None:
    rate, audio = 1000, np.zeros(2000, np.float32)
    audio[500:1000] = 0.5
    audio[1000:1500:2] = -0.25
    found = waveform(audio, rate, 2.0)
    assert found is not None
    peak, rms = (np.frombuffer(bytes.fromhex(str(found[k])), np.uint8) for k in ("peak", "rms"))
    assert (len(peak), found["s"]) == (200, 0.01)
    at = lambda t: int(t / 0.01)  # noqa: E731
    assert (peak[at(0.2)], peak[at(0.7)], peak[at(1.2)], peak[at(1.8)]) == (0, 255, 128, 0)
    assert rms[at(0.7)] == 255
    assert rms[at(1.2)] == round(255 * 0.5 / np.sqrt(2))
    assert waveform(None, rate, 2.0) is None
    assert waveform(np.zeros(100, np.float32), rate, 2.0) is None
    long = waveform(np.ones(60 * rate, np.float32), rate, 60.0)
    assert long is not None
    assert len(str(long["peak"])) == 2 * 1200
