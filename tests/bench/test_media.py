"""The media benchmark: its films are what they say, its comparisons compare the same thing, its figures add up."""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from avst.media import MediaSettings, close_workers, content_digest, load_clip, probe
from scripts.bench import media, media_loader
from scripts.bench.media_files import copies, write_film

SMALL = replace(media.QUICK, seconds=2.0, size=(160, 120), repeats=2)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_film(tmp_path_factory.mktemp("films") / "film.mp4", SMALL.seconds, SMALL.size, media.FILM_FPS)


@pytest.fixture(autouse=True, scope="module")
def no_worker_left():
    yield
    close_workers()


def test_the_film(film: Path) -> None:
    info = probe(film)
    assert (info.width, info.height, info.fps, info.n_frames) == (160, 120, 30.0, 60)
    assert (info.video_codec, info.audio_codec) == ("h264", "aac")
    frames = load_clip(film).frames.astype(int)
    assert all(np.abs(a - b).mean() > 3 for a, b in pairwise(frames))  # it moves


def test_copies_are_one_film_and_many_files(film: Path, tmp_path: Path) -> None:
    paths = copies(film, tmp_path / "copies", 3)
    assert len({content_digest(path) for path in [film, *paths]}) == 4
    for path in paths:
        np.testing.assert_array_equal(load_clip(path).frames, load_clip(film).frames)


def test_decoding_figures_are_made_of_their_runs(film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With another "decoder" in the place of those that may not be installed: it is avst's own, one frame changed."""

    def other(path: Path, fps: float) -> np.ndarray:
        frames = load_clip(path, MediaSettings(fps=fps, audio_rate=None)).frames.copy()
        frames[2] = 255 - frames[2]
        return frames

    monkeypatch.setattr(media, "others", lambda fps, threads: ({"twin": other}, {"decord": "not there"}))
    monkeypatch.setattr(media, "_resized", lambda film, sizes: None)
    before = os.environ.get("AVST_DECODER_THREADS")
    picture, _, faster = media.decoding(film, SMALL)[:3]
    assert os.environ.get("AVST_DECODER_THREADS") == before
    assert faster.name.endswith("best other (twin) / avst")
    runs = faster.how["seconds"]
    ratios = [a / b for a, b in zip(runs["twin"], runs["avst"], strict=True)]
    assert min(ratios) <= faster.value <= max(ratios)
    assert min(runs["avst"]) <= picture.value <= max(runs["avst"])
    found = faster.how["frames_compared"]["twin"]
    assert (found["same"], found["of"], found["differ_at"]) == (3, 4, [2])
    assert faster.how["not_installed"] == {"decord": "not there"}


def test_what_is_not_installed_is_listed(film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media, "others", lambda fps, threads: ({}, {"decord": "no", "torchcodec": "no"}))
    last = media.decoding(film, SMALL)[-1]
    assert (last.name, last.met) == ("decoders to compare with: none installed", None)
    assert sorted(last.how["not_installed"]) == ["decord", "torchcodec"]


def test_other_shapes_are_no_agreement() -> None:
    ours = np.zeros((4, 6, 8, 3), np.uint8)
    assert media.agrees(ours, np.zeros((3, 6, 8, 3), np.uint8))["same"] == 0
    assert media.agrees(ours, torch.zeros(4, 3, 6, 8, dtype=torch.uint8))["same"] == 4


def test_cached_epoch(film: Path, tmp_path: Path) -> None:
    warm, first = media.cached(film, tmp_path, SMALL)
    assert warm.how["clips"] == SMALL.clips
    for figure, arm in ((warm, "cached"), (first, "first")):
        ratios = [a / b for a, b in zip(figure.how["seconds"]["decoded"], figure.how["seconds"][arm], strict=True)]
        assert min(ratios) <= figure.value <= max(ratios)


def test_touching_depends_on_every_byte(film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = load_clip(film)
    found = []
    for change in (lambda c: c, lambda c: c.frames.__setitem__((3, 7, 9, 1), c.frames[3, 7, 9, 1] ^ 1)):
        altered = replace(clip, frames=clip.frames.copy())
        change(altered)
        monkeypatch.setattr(media, "load_clip", lambda path, settings, clip=altered: clip)
        found.append(media.touch(film, MediaSettings()))
    assert found[0] != found[1]


def test_overlap_figures_are_medians_over_rounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_folders: dict[str, Path]
) -> None:
    """Given runs in the place of real ones, each round slower than the last: the ratio is of runs of one round."""
    took = {"decoded by workers": 1.1, "decoded in the training process": 3.0, "preloaded": 1.0}
    asked: list[str] = []

    def training(model, rows, builder, said, in_memory, sizes):
        name = "preloaded" if in_memory else "decoded in the training process" if said else "decoded by workers"
        asked.append(name)
        return [took[name] * ((len(asked) - 1) // 3 + 1)] * 4, [0.0] * 4

    monkeypatch.setattr(media_loader, "training", training)
    monkeypatch.setattr(media_loader, "make_tiny", lambda *_, **__: tiny_folders["qwen2_5_omni"])
    base, with_workers, without = media_loader.overlap(tmp_path, replace(media_loader.QUICK, seconds=1.0, rounds=3))
    assert asked == list(media_loader.ARMS) * 3
    assert (base.value, without.target) == (2.0, "")
    assert with_workers.how["median_step_of_each_run"]["preloaded"] == [1.0, 2.0, 3.0]
    assert with_workers.value == pytest.approx(1.1)
    assert without.value == pytest.approx(3.0)


def test_a_run_decodes_where_it_is_told(film: Path, tmp_path: Path, tiny_folders: dict[str, Path]) -> None:
    """Without workers the training process asks for every clip itself; with them for none."""
    sizes = replace(media_loader.QUICK, steps=1, answer=2)
    copies(film, tmp_path, 3)
    model = tiny_folders["qwen2_5_omni"]
    rows = media_loader.questions_about(tmp_path, model, None, 84 * 56)
    made: list[int] = []
    build = rows.builder.build
    rows.builder.build = lambda question, clip: made.append(1) or build(question, clip)  # type: ignore[method-assign]
    for said, n_here in (({"dataloader_num_workers": 0}, 3), ({}, 0)):
        made.clear()
        seconds, waits = media_loader.training(model, rows, rows.builder, said, False, sizes)
        assert (len(seconds), len(waits)) == (1, 1)
        assert len(made) == n_here
