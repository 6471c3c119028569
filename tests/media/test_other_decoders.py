"""decord and torchcodec against PyAV: the same frames at the same times. Each runs only where it is installed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from avst.media import MediaError, MediaSettings, load_clip
from avst.media.settings import Decoder
from tests.media.make_media import numbers_of, tone

UNEVEN = [0.0, 0.1, 0.9, 1.0, 1.4, 2.6, 2.65, 3.9]


@pytest.fixture(params=["decord", "torchcodec"])
def decoder(request: pytest.FixtureRequest, film) -> Decoder:
    """The decoder's name; a skip with the cause where it cannot be used."""
    try:
        load_clip(film("try.mp4"), MediaSettings(decoder=request.param))
    except MediaError as error:
        if "cannot be used here" in str(error):
            pytest.skip(str(error))
        raise
    return request.param


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
@pytest.mark.parametrize("offset", [0.0, 5.0])
def test_same_frames(film, decoder: Decoder, ending: str, offset: float) -> None:
    path = film(f"a.{ending}", times_s=[offset + t for t in UNEVEN], last_s=0.5)
    for fps in (2.0, 7.0):
        ours = load_clip(path, MediaSettings(fps=fps))
        theirs = load_clip(path, MediaSettings(fps=fps, decoder=decoder))
        assert numbers_of(theirs.frames) == numbers_of(ours.frames)
        np.testing.assert_array_equal(theirs.times_s, ours.times_s)


def test_picture_that_starts_late_and_size(film, decoder: Decoder) -> None:
    path = film(times_s=[1 + i / 25 for i in range(50)], sound=np.zeros((1, 3 * 48000), np.float32))
    ours, theirs = (load_clip(path, MediaSettings(size=(56, 28), decoder=d)) for d in ("pyav", decoder))
    assert theirs.frames.shape == (6, 28, 56, 3)
    assert numbers_of(theirs.frames) == numbers_of(ours.frames) == [0, 0, 0, 12, 25, 37]


@pytest.mark.parametrize("rotation", [90, 180])
def test_same_way_up(film, decoder: Decoder, rotation: int) -> None:
    path = film(rotation=rotation)
    ours, theirs = (load_clip(path, MediaSettings(decoder=d)).frames.astype(int) for d in ("pyav", decoder))
    assert np.abs(ours - theirs).mean() < 3


def test_same_sound(film, decoder: Decoder) -> None:
    path = film(sound=np.stack([tone(440, 3, 48000), tone(880, 3, 48000)]), sound_start_s=0.5)
    ours, theirs = (load_clip(path, MediaSettings(channels="keep", decoder=d)).audio for d in ("pyav", decoder))
    assert theirs.shape == ours.shape
    np.testing.assert_allclose(theirs, ours, atol=2e-3)


def test_a_bad_file_is_the_same_clear_error(tmp_path: Path, decoder: Decoder) -> None:
    (tmp_path / "b.mp4").write_text("no video")
    with pytest.raises(MediaError, match="a text file, not a video"):
        load_clip(tmp_path / "b.mp4", MediaSettings(decoder=decoder))


def test_a_decoder_that_is_not_there_is_said_to_be(film, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is installed here: a module of that name that cannot be imported."""
    import sys

    from avst.media.decode import decoder as find

    monkeypatch.setitem(sys.modules, "avst.media.decord_decoder", None)
    with pytest.raises(MediaError, match="the decoder decord cannot be used here"):
        find("decord")
