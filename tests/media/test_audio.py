"""Sound: pitch, level, channels and above all its place on the clock."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soxr

from avst.media import MediaSettings, load_clip
from avst.media.audio import Timeline
from avst.media.settings import MediaError
from tests.media.make_media import numbers_of, tone

RATE = 16000


def pitch(samples: np.ndarray, rate: int = RATE) -> float:
    """Hz of the strongest line of the spectrum."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.fft.rfftfreq(len(samples), 1 / rate)[spectrum.argmax()])


def loud_from(samples: np.ndarray, level: float = 0.1) -> float:
    return float(np.flatnonzero(np.abs(samples) > level)[0] / RATE)


def test_mono_is_the_mean_of_the_channels(film) -> None:
    left, right = tone(440, 4, 48000), tone(880, 4, 48000, 0.25)
    audio = load_clip(film("a.mkv", sound=np.stack([left, right]), sound_codec="pcm_s16le")).audio
    expected = soxr.resample((left + right) / 2, 48000, RATE, quality="HQ")
    assert audio.dtype == np.float32
    assert len(audio) == 4 * RATE
    np.testing.assert_allclose(audio, expected, atol=2e-4)  # 16-bit samples


def test_channels_are_kept_on_request(film) -> None:
    sound = np.stack([tone(300 * (i + 1), 2, 48000) for i in range(4)])
    audio = load_clip(film("a.mkv", sound=sound, sound_codec="pcm_s16le"), MediaSettings(channels="keep")).audio
    assert audio.shape == (4, 2 * RATE)
    assert [pitch(channel) for channel in audio] == pytest.approx([300, 600, 900, 1200], abs=1)


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 48000])
def test_other_rates(film, rate: int) -> None:
    clip = load_clip(film(sound=tone(440, 4, 44100)[None], sound_rate=44100), MediaSettings(audio_rate=rate))
    assert clip.audio_rate == rate
    assert len(clip.audio) == pytest.approx(4 * rate, abs=0.03 * rate)
    assert pitch(clip.audio[: 3 * rate], rate) == pytest.approx(440, abs=1)


@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts"])
@pytest.mark.parametrize("offset", [0.0, 5.0])
def test_late_sound_begins_late(film, ending: str, offset: float) -> None:
    times = [offset + i / 25 for i in range(100)]
    path = film(f"a.{ending}", times_s=times, sound=tone(440, 2, 48000)[None], sound_start_s=offset + 1.5)
    audio = load_clip(path).audio
    assert loud_from(audio) == pytest.approx(1.5, abs=0.003)
    assert len(audio) / RATE == pytest.approx(3.5, abs=0.03)
    assert np.abs(audio[: int(1.47 * RATE)]).max() < 1e-6


def test_picture_and_sound_share_the_clock(film) -> None:
    """The picture starts one second after the sound: a click at 2 s of the sound is at frame 25's time."""
    sound = np.zeros((1, 4 * 48000), np.float32)
    sound[0, 2 * 48000 : 2 * 48000 + 4800] = 0.9
    clip = load_clip(film("a.mkv", times_s=[1 + i / 25 for i in range(75)], sound=sound, sound_codec="pcm_s16le"))
    assert loud_from(clip.audio) == pytest.approx(2.0, abs=0.002)
    assert numbers_of(clip.frames)[clip.times_s.tolist().index(2.0)] == 25


@pytest.mark.parametrize(("ending", "codec"), [("mkv", "pcm_s16le"), ("mkv", "aac"), ("mp4", "aac")])
def test_a_gap_is_silence_and_what_follows_keeps_its_place(film, ending: str, codec: str) -> None:
    path = film(f"a.{ending}", sound=tone(440, 4, 48000)[None], sound_gap=(1.0, 2.0), sound_codec=codec)
    audio = load_clip(path).audio
    assert np.abs(audio[int(1.1 * RATE) : int(1.9 * RATE)]).max() < 1e-3
    assert pitch(audio[int(2.2 * RATE) : int(3.8 * RATE)]) == pytest.approx(440, abs=2)
    again = np.flatnonzero(np.abs(audio[int(1.5 * RATE) :]) > 0.1)[0] / RATE + 1.5
    assert again == pytest.approx(2.0, abs=0.03)  # the first whole block of 1024 samples
    assert len(audio) / RATE == pytest.approx(4.0, abs=0.03)


@pytest.mark.parametrize("codec", ["pcm_u8", "pcm_s16le", "pcm_s32le", "pcm_f32le", "pcm_f64le", "flac"])
def test_sample_formats_have_one_scale(tmp_path: Path, codec: str) -> None:
    """A tone at half level in each format, written through its own converter, at 16 kHz: no resampling."""
    path = tmp_path / "a.mkv"
    sound = np.stack([tone(440, 1, RATE), tone(660, 1, RATE)])
    with av.open(str(path), "w") as out:
        video = out.add_stream("ffv1", rate=25)
        video.width, video.height, video.pix_fmt = 32, 32, "bgr0"
        audio = out.add_stream(codec, rate=RATE, layout="stereo")
        for i in range(25):
            picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), "rgb24").reformat(format="bgr0")
            picture.pts = i
            out.mux(video.encode(picture))
        convert = av.AudioResampler(format=audio.codec_context.format.name, layout="stereo", rate=RATE)
        for at in range(0, RATE, 1000):
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound[:, at : at + 1000]), "fltp", "stereo")
            frame.sample_rate, frame.pts, frame.time_base = RATE, at, Fraction(1, RATE)
            for converted in convert.resample(frame):
                out.mux(audio.encode(converted))
        out.mux(audio.encode())
    heard = load_clip(path, MediaSettings(channels="keep")).audio
    np.testing.assert_allclose(heard, sound, atol=0.01 if codec == "pcm_u8" else 1e-4)


def ruin(path: Path, from_s: float, to_s: float) -> Path:
    """Overwrite the sound's packets between two times with bytes that no AAC decoder takes."""
    with av.open(str(path)) as container:
        packets = [(p.pos, p.size, float(p.pts * p.time_base)) for p in container.demux(audio=0) if p.pts is not None]
    data = bytearray(path.read_bytes())
    for at, size, second in packets:
        if from_s <= second < to_s:
            data[at : at + size] = b"\xff" * size
    path.write_bytes(data)
    return path


def test_a_little_unreadable_sound_is_silence_in_its_place(film) -> None:
    audio = load_clip(ruin(film(sound=tone(440, 4, 48000)[None]), 1.0, 1.15)).audio
    assert np.abs(audio[int(1.05 * RATE) : int(1.12 * RATE)]).max() < 0.01
    assert pitch(audio[int(1.3 * RATE) : int(3.9 * RATE)]) == pytest.approx(440, abs=1)
    assert len(audio) == pytest.approx(4 * RATE, abs=10)


def test_much_unreadable_sound_names_file_and_time(film) -> None:
    path = ruin(film(sound=tone(440, 4, 48000)[None]), 1.0, 2.0)
    with pytest.raises(MediaError, match=r"a\.mp4: the sound is unreadable from about 1\.\d\d s on"):
        load_clip(path)


def test_no_track_is_none(film) -> None:
    clip = load_clip(film())
    assert clip.audio is None


def test_no_ears_no_sound(film) -> None:
    clip = load_clip(film(sound=tone(440, 4, 48000)[None]), MediaSettings(audio_rate=None))
    assert clip.audio is None
    assert clip.audio_rate == 0


def test_timeline_joins_jitter_fills_gaps_and_cuts_overlap() -> None:
    """1000 Hz, no resampling: worked by hand."""
    line = Timeline("a", 1000, 1000, 1, "mono")
    ones = np.ones((1, 100), np.float32)
    line.add(ones, 0.050)  # late start: 50 of silence
    line.add(2 * ones, 0.154)  # 4 ms of jitter: joined at 150
    line.add(3 * ones, 0.300)  # 50 of gap
    line.add(4 * ones, 0.350)  # overlaps by 50: half is cut
    line.add(5 * ones, None)
    expected = [0] * 50 + [1] * 100 + [2] * 100 + [0] * 50 + [3] * 100 + [4] * 50 + [5] * 100
    assert line.finish(0.55).tolist() == expected


def test_timeline_cuts_what_lies_before_zero_and_the_padding_at_the_end() -> None:
    line = Timeline("a", 1000, 1000, 2, "keep")
    line.add(np.arange(200, dtype=np.float32).reshape(2, 100), -0.020)
    assert line.finish(0.070).tolist() == [list(range(20, 90)), list(range(120, 190))]


def test_much_unreadable_sound_is_refused() -> None:
    line = Timeline("a.mp4", 1000, 1000, 1, "mono")
    line.lose(0.2)
    with pytest.raises(MediaError, match=r"a\.mp4: the sound is unreadable"):
        line.lose(0.2)
