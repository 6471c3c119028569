"""Damage that the container's reader passes over: what is missing is refused, never shown as a frozen picture."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from avst.media import MediaError, MediaSettings, load_clip
from avst.media.holes import refuse_lost_frames
from avst.media.scan import scan
from tests.media.make_media import Film, numbers_of, tone, write

# ten seconds, a keyframe each second, large enough for holes of many kB
LONG: dict[str, Any] = {
    "times_s": [i / 25 for i in range(250)],
    "size": (320, 240),
    "options": {"g": "25", "crf": "5", "sc_threshold": "0"},
}


def with_hole(path: Path, second: float, n: int) -> Path:
    """n bytes of zeros from behind the packet shown at `second`."""
    with av.open(str(path)) as container:
        packets = [p for p in container.demux() if p.pts is not None and p.size]
        shown = {p.pos: float(p.pts * p.time_base) for p in packets if p.stream_index == 0}
        packet = min(shown, key=lambda pos: abs(shown[pos] - min(shown.values()) - second))
        at = min(p.pos for p in packets if p.pos > packet)
    data = bytearray(path.read_bytes())
    data[at : at + n] = bytes(n)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("sound", [True, False])
@pytest.mark.parametrize("n", [2000, 70_000])
@pytest.mark.parametrize("ending", ["mkv", "flv", "ts"])
def test_a_hole_in_the_middle_is_refused_with_its_time(tmp_path: Path, ending: str, n: int, sound: bool) -> None:
    """Without the check: frames of the hole's stretch are those before it, in every one of these."""
    path = write(tmp_path / f"a.{ending}", Film(**LONG, sound=tone(440, 10, 48000)[None] if sound else None))
    whole = numbers_of(load_clip(path, MediaSettings(fps=8.0)).frames)
    with_hole(path, 4.04, n)
    with pytest.raises(MediaError) as caught:
        load_clip(path, MediaSettings(fps=8.0, audio_rate=None))
    said = str(caught.value)
    assert "\n" not in said
    where = re.fullmatch(re.escape(str(path)) + r": (?:the frame at|cut off at|unreadable from) (\d+\.\d{3}) s.*", said)
    assert where, said
    assert 3.9 < float(where[1]) <= 4.5
    if "the frame" not in said:  # there is nothing behind it that the reader could go on with
        return
    lost = scan(path).lost_s
    if lost:  # what lies before the hole, and from the next keyframe on, is right
        times = [k / 8 for k in range(len(whole))]
        assert all(start > 3.8 and (abs(end - round(min(end, 99))) < 0.1 or end > 99) for start, end in lost)
        good = [k for k, t in enumerate(times) if not any(a <= t < b for a, b in lost)]
        refuse_lost_frames(str(path), lost, [times[k] for k in good], 1e-6)
        assert len(good) > 20


def test_a_hole_that_no_asked_frame_depends_on_is_no_matter(tmp_path: Path) -> None:
    """Keyframes at 3, 4 and 5 s, a hole behind 4.04 s: 0, 2.5, 5 and 7.5 s are what they were."""
    path = write(tmp_path / "a.mkv", Film(**LONG), options={"cluster_time_limit": "300"})
    asked = MediaSettings(fps=0.4)
    whole = load_clip(path, asked).frames
    with_hole(path, 4.04, 400)
    np.testing.assert_array_equal(load_clip(path, asked).frames, whole)
    with pytest.raises(MediaError, match=r"the frame at 4\.500 s is unreadable"):
        load_clip(path, MediaSettings(fps=2.0))


@pytest.mark.parametrize(("n", "refused"), [(500, False), (40_000, True)])
def test_sound_that_a_hole_took_counts_as_unreadable(tmp_path: Path, n: int, refused: bool) -> None:
    """A film of small pictures and PCM sound (96 kB a second): 40,000 bytes are more than a quarter of a second."""
    film = Film([i / 5 for i in range(50)], last_s=0.2, sound=tone(440, 10, 48000)[None], sound_codec="pcm_s16le")
    path = write(tmp_path / "a.mkv", film, options={"cluster_time_limit": "100"})
    with av.open(str(path)) as container:
        at = next(p.pos for p in container.demux(audio=0) if p.pts is not None and p.pts * p.time_base > 4.25)
    data = bytearray(path.read_bytes())
    data[at : at + n] = bytes(n)
    path.write_bytes(data)
    if refused:
        with pytest.raises(MediaError, match=r"a\.mkv: the sound is unreadable from about 4\.\d\d s on"):
            load_clip(path, MediaSettings(fps=0.1))
    else:
        audio = load_clip(path, MediaSettings(fps=0.1)).audio
        assert len(audio) == 160_000
        loud = np.abs(audio.reshape(-1, 160)).max(axis=1) > 0.4  # by 10 ms
        assert loud[:424].all()
        assert loud[450:].all()
        assert not loud.all()


@pytest.mark.parametrize("ending", ["mkv", "flv", "ts"])
def test_uneven_rates_and_pauses_are_no_holes(tmp_path: Path, ending: str) -> None:
    """Pictures held for seconds beside sound with a gap, all of it as written: nothing is missing."""
    times = [0.0, 0.04, 0.08, 2.6, 2.64, 3.2, 5.6, 5.64, 5.68, 6.9]
    sound = tone(440, 7, 48000)[None]
    path = write(tmp_path / f"a.{ending}", Film(times, last_s=0.1, sound=sound, sound_gap=(3.1, 5.9)))
    found = scan(path)
    assert (found.lost_s, found.silent_s) == ([], [])
    assert numbers_of(load_clip(path, MediaSettings(fps=1.0)).frames)[:7] == [0, 2, 2, 4, 5, 5, 8]


def test_what_a_container_carries_beside_its_frames_is_no_hole(tmp_path: Path) -> None:
    """Bytes that are in no packet (here an element to pass over; alpha and HDR are others), in a film of uneven rate
    that has a pause elsewhere."""
    times = [i / 25 for i in range(100)] + [6 + i / 25 for i in range(150)]
    path = write(tmp_path / "a.mkv", Film(times, size=(320, 240), options={"g": "25", "crf": "5"}))
    whole = load_clip(path).frames
    data = path.read_bytes()
    clusters = [at for at in range(len(data)) if data.startswith(b"\x1f\x43\xb6\x75", at)]
    void = b"\xec" + (0x4000 | 5000).to_bytes(2, "big") + bytes(5000)
    path.write_bytes(data[: clusters[-1]] + void + data[clusters[-1] :])
    found = scan(path)
    assert found.lost_s == []
    np.testing.assert_array_equal(load_clip(path).frames, whole)
