"""Rendered clips, decoded: what the annotations say is there, is there, and nothing else is."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from avst.answer import parse_gold
from avst.scenes.encode import write_clip
from avst.scenes.motion import Path as Way
from avst.scenes.plan import Actor, Event, Scene, plan_scene
from avst.scenes.questions import annotate
from avst.scenes.render import scene_frames
from avst.scenes.settings import PRESETS, make_settings
from avst.scenes.sound import one_second, render_audio
from avst.scenes.world import EVERYDAY_NAMES, thing
from avst.types import NOT_VISIBLE, Interval
from tests.scenes.decoded import Decoded, band_level, decode, of_colour


def rendered(scene: Scene, path: Path, rate: int = 16000) -> Decoded:
    cues = [(a.thing.name, a.sound) for a in scene.actors if a.sound is not None]
    audio = render_audio(cues, scene.duration_s, rate, scene.noise, scene.seed)
    write_clip(path, scene_frames(scene), scene.fps, scene.size, audio, rate)
    return decode(path)


def still(name: str, span: Interval, centre: tuple[float, float], size: tuple[float, float]) -> tuple[str, Way]:
    return name, Way("linear", span, centre, (0.0, 0.0), size)


def gold_boxes(scene: Scene) -> list[tuple[str, float, tuple[float, ...]]]:
    """(name, time, box) of all spatial and st answers, read back from the text."""
    found = []
    for event in annotate(scene)["annotation"]:
        for key, items in event.items():
            for item in items if key != "event_num" else []:
                answer = parse_gold(item["A"])
                assert not answer.problems
                for o in answer.objects:
                    found += [(o.name, t, b) for t, b in zip(o.track.times_s, o.track.boxes_px, strict=True)]
    return found


@pytest.mark.parametrize("difficulty", ["quickstart", "easy", "medium"])
def test_the_colour_fills_the_gold_box_and_stays_inside_it(difficulty: str, tmp_path: Path) -> None:
    checked = 0
    for index in range(8):
        scene = plan_scene(make_settings(difficulty, n_silent=(0, 0), n_sounding=(1, 1), bearings=False), 7, index)
        clip = rendered(scene, tmp_path / f"{index}.mp4")
        for name, time, box in gold_boxes(scene):
            colour = of_colour(clip.at(time), thing(name).look.colour)
            if box == NOT_VISIBLE:
                assert colour.mean() < 0.002, (name, time)
                continue
            x1, y1, x2, y2 = (int(v) for v in box)
            inside = colour[y1:y2, x1:x2]
            assert inside.mean() > 0.3, (name, time, inside.mean())
            outside = colour.copy()
            outside[max(0, y1 - 2) : y2 + 2, max(0, x1 - 2) : x2 + 2] = False
            assert outside.sum() <= 0.02 * inside.sum(), (name, time, outside.sum())
            # The box is tight: the colour comes within three pixels of each of its sides.
            rows, columns = np.nonzero(inside.any(axis=1))[0], np.nonzero(inside.any(axis=0))[0]
            tight = (rows[0], columns[0], y2 - y1 - 1 - rows[-1], x2 - x1 - 1 - columns[-1])
            assert max(tight) <= 3, (name, time, tight)
            checked += 1
    assert checked > 20


@pytest.mark.parametrize("fps", ["8", "25", "30000/1001"])
def test_an_object_is_on_screen_for_its_span_and_no_longer(fps: str, tmp_path: Path) -> None:
    name, way = still("dog", Interval(1.0, 2.5), (60.0, 50.0), (40.0, 40.0))
    scene = Scene("s", 4.0, (128, 96), Fraction(fps), (Actor(thing(name), "silent", way, None),), ())
    clip = rendered(scene, tmp_path / "s.mp4")
    seen = np.array([of_colour(frame, thing(name).look.colour).mean() > 0.05 for frame in clip.frames])
    step = float(1 / Fraction(fps))
    assert clip.times_s[0] == 0.0
    assert abs(clip.times_s[seen][0] - 1.0) < step
    assert abs(clip.times_s[seen][-1] + step - 2.5) < step
    assert np.diff(np.nonzero(seen)[0]).max() == 1


def test_a_hidden_object_sounds_and_draws_no_pixel(tmp_path: Path) -> None:
    hidden = Actor(thing("bird"), "hidden", None, Interval(1.0, 3.0))
    scene = Scene("s", 4.0, (112, 112), Fraction(8), (hidden,), (Event(Interval(1.0, 3.0), (0,)),))
    empty = Scene("s", 4.0, (112, 112), Fraction(8), (), ())
    clip = rendered(scene, tmp_path / "hidden.mp4")
    np.testing.assert_array_equal(clip.frames, rendered(empty, tmp_path / "empty.mp4").frames)
    hz, rate = thing("bird").timbre.fundamental_hz, clip.rate
    loud = band_level(clip.audio[int(1.1 * rate) : int(2.9 * rate)], rate, hz)
    assert loud > 100 * band_level(clip.audio[: int(0.9 * rate)], rate, hz)
    assert annotate(scene)["annotation"] == []


def test_each_object_is_heard_in_its_own_band_when_the_answer_says_so(tmp_path: Path) -> None:
    for index in range(5):
        scene = plan_scene(make_settings("medium", noise=0.0, offscreen=0.0), 11, index)
        clip = rendered(scene, tmp_path / f"{index}.mp4")
        for actor in scene.actors:
            if actor.sound is None:
                continue
            hz, rate = actor.thing.timbre.fundamental_hz, clip.rate
            inside = clip.audio[round((actor.sound.start + 0.05) * rate) : round((actor.sound.end - 0.05) * rate)]
            before = clip.audio[: round((actor.sound.start - 0.05) * rate)] if actor.sound.start > 0.3 else None
            after = clip.audio[round((actor.sound.end + 0.05) * rate) : round(scene.duration_s * rate)]
            for outside in (before, after):
                if outside is not None and len(outside) > 0.3 * rate:
                    assert band_level(inside, rate, hz) > 4 * band_level(outside, rate, hz), (index, actor.thing.name)


@pytest.mark.parametrize("rate", [16000, 44100])
def test_sound_starts_and_ends_within_20_ms_of_its_time(rate: int, tmp_path: Path) -> None:
    cat = Actor(thing("flute"), "hidden", None, Interval(1.5, 3.0))
    clip = rendered(Scene("s", 4.0, (64, 64), Fraction(10), (cat,), ()), tmp_path / "s.mp4", rate)
    loud = np.nonzero(np.abs(clip.audio) > 0.05)[0] / rate
    assert abs(loud[0] - 1.5) < 0.02
    assert abs(loud[-1] - 3.0) < 0.02
    assert abs(len(clip.audio) / rate - 4.0) < 2048 / rate


def test_no_two_everyday_names_look_or_sound_alike() -> None:
    things = [thing(name) for name in EVERYDAY_NAMES]
    assert len(things) >= 12
    for i, a in enumerate(things):
        for b in things[:i]:
            far = np.abs(np.array(a.look.colour) - np.array(b.look.colour)).max()
            assert far >= 50, (a.name, b.name)
            low, high = sorted((a.timbre.fundamental_hz, b.timbre.fundamental_hz))
            assert high / low > 1.15, (a.name, b.name)
    for a in things:
        # Its own fundamental stands out of the timbre against every other name's.
        wave = one_second(a.name, 16000)
        own = band_level(wave, 16000, a.timbre.fundamental_hz)
        assert all(own > 3 * band_level(wave, 16000, b.timbre.fundamental_hz) for b in things if b is not a), a.name


def test_the_same_scene_gives_the_same_bytes(tmp_path: Path) -> None:
    scene = plan_scene(PRESETS["medium"], 3, 1)
    first, second = (tmp_path / name for name in ("a.mp4", "b.mp4"))
    rendered(scene, first)
    rendered(plan_scene(PRESETS["medium"], 3, 1), second)
    assert first.read_bytes() == second.read_bytes()


def test_bearings_say_where_and_when_one_is(tmp_path: Path) -> None:
    """The background has 60 at the low end of an axis and 170 at the high end; a dot is 20 there and 235; both survive
    the encoder."""
    scene = plan_scene(make_settings("quickstart", bearings=True), 3, 0)
    empty = replace(scene, actors=(), events=(), distractors=(), noise=0.0)
    frames = list(scene_frames(empty))
    assert frames[0][0, 0].tolist() == [20, 20, 20]  # a dot
    assert frames[0][5, 5].tolist() == pytest.approx([60, 60, 60], abs=8)
    assert frames[0][-1, -1].tolist() == [170, 170, 60]
    assert frames[-1][5, -1].tolist() == pytest.approx([170, 60, 170], abs=8)
    assert frames[-1][-1, 5].tolist() == pytest.approx([60, 170, 170], abs=8)
    clip = rendered(scene, tmp_path / "dots.mp4")
    width, height = scene.size
    for time in (0.0, scene.duration_s / 2, scene.duration_s - 0.2):
        dots = clip.at(time).astype(float)[1::14, 1::14]
        xs, ys = np.arange(1, width, 14) / (width - 1), np.arange(1, height, 14) / (height - 1)
        assert abs(dots[:, :, 0] - (20 + 215 * xs)[None]).mean() < 12
        assert abs(dots[:, :, 1] - (20 + 215 * ys)[:, None]).mean() < 12
        assert abs(dots[:, :, 2] - (20 + 215 * time / scene.duration_s)).mean() < 16


def test_bearings_change_no_question_and_no_box() -> None:
    plain, told = (plan_scene(make_settings("quickstart", bearings=b), 5, 2) for b in (False, True))
    assert annotate(plain) == annotate(told)
    assert replace(told, bearings=False) == plain
