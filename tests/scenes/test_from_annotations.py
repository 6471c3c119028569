"""Clips for annotations that exist: boxes second by second, tones in the sounding intervals, boxes rescaled."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from avst.errors import AvstError
from avst.scenes.annotated import asked_interval, joined, sounding
from avst.scenes.from_annotations import AnnotatedSettings, render_annotations, rescale_line
from avst.scenes.world import thing
from avst.tasks.r_avst import load_annotations
from avst.types import Interval
from tests.scenes.decoded import band_level, decode, of_colour

ST_A = """<answer>
<object>Old dog</object>
<when>[1.8, 5.3]</when>
<where>
1.8: [40.0, 40.0, 120.0, 120.0]
2.8: [140.0, 40.0, 220.0, 120.0]
3.8: [0.0, 0.0, 0.0, 0.0]
4.8: [200.0, 120.0, 319.0, 239.0]
</where>
</answer>"""
SOUNDING_A = """<answer>
<object>bell</object>
<where>
6.0: [10.0, 10.0, 70.0, 90.0]
6.0: [200.0, 10.0, 260.0, 90.0]
</where>
<object>nobody</object>
<where>
</where>
</answer>"""
DATA = [
    {
        "video_name": "-first_1",
        "duration": 8.0,
        "annotation": [
            {
                "event_num": 1,
                "AV ST Reasoning": [
                    {
                        "Q": 'When is the moment Old dog makes sound and is visible, and where is the "Old dog"?',
                        "A": ST_A,
                    }
                ],
            },
            {
                "event_num": 1,
                "AV Spatial Reasoning": [
                    {
                        "Q": "What visible object(s) make sound between 6.0 and 7.25, and where is/are they?",
                        "A": SOUNDING_A,
                    }
                ],
            },
        ],
    }
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "QA.json"
    path.write_text(json.dumps(DATA, indent=2))
    return path


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_boxes_are_where_the_rewritten_annotations_say(file: Path, tmp_path: Path, scale: float) -> None:
    made = render_annotations(file, tmp_path / "out", AnnotatedSettings(fps="10", scale=scale))
    clip = decode(made.videos / "-first_1.mp4")
    assert clip.frames.shape[1:3] == (240 * scale, 320 * scale)
    assert len(clip.frames) == 80
    st, spatial = load_annotations(made.annotations["all"])
    for question in (st, spatial):
        for found in question.gold.objects:
            for time in set(found.track.times_s):
                colour = of_colour(clip.at(time), thing(found.name).look.colour)
                union = np.zeros_like(colour)
                for t, box in zip(found.track.times_s, found.track.boxes_px, strict=True):
                    if t == time and any(box):
                        x1, y1, x2, y2 = (round(v) for v in box)
                        assert colour[y1:y2, x1:x2].mean() > 0.3, (found.name, time)
                        union[max(0, y1 - 2) : y2 + 2, max(0, x1 - 2) : x2 + 2] = True
                assert (colour & ~union).sum() <= 0.02 * max(colour.sum(), 50), (found.name, time)
    # Half way between two seconds it is half way between their boxes; after a lone second it is gone a second later.
    colour = thing("Old dog").look.colour
    middle = np.nonzero(of_colour(clip.at(2.3), colour))[1]
    assert abs(middle.mean() - 130 * scale) < 4
    assert of_colour(clip.at(5.75), colour).any()
    assert not of_colour(clip.at(5.85), colour).any()
    assert not of_colour(clip.at(1.65), colour).any()


def test_scale_one_keeps_the_text_and_other_scales_the_rest_of_it(file: Path, tmp_path: Path) -> None:
    render_annotations(file, tmp_path / "whole", AnnotatedSettings(fps="2"))
    assert (tmp_path / "whole" / "annotations.json").read_text() == file.read_text()
    render_annotations(file, tmp_path / "half", AnnotatedSettings(fps="2", max_side=160))
    (entry,) = json.loads((tmp_path / "half" / "annotations.json").read_text())
    answer = entry["annotation"][0]["AV ST Reasoning"][0]["A"]
    assert answer == (
        "<answer>\n<object>Old dog</object>\n<when>[1.8, 5.3]</when>\n<where>\n1.8: [20.0, 20.0, 60.0, 60.0]\n"
        "2.8: [70.0, 20.0, 110.0, 60.0]\n3.8: [0.0, 0.0, 0.0, 0.0]\n4.8: [100.0, 60.0, 159.5, 119.5]\n</where>\n"
        "</answer>"
    )
    assert {k: v for k, v in entry.items() if k != "annotation"} == {"video_name": "-first_1", "duration": 8.0}


def test_tones_sound_in_their_intervals(file: Path, tmp_path: Path) -> None:
    made = render_annotations(file, tmp_path / "out", AnnotatedSettings(fps="2"))
    clip = decode(made.videos / "-first_1.mp4")
    rate = clip.rate
    for name, start, end in (("Old dog", 1.8, 5.3), ("bell", 6.0, 7.25)):
        hz = thing(name).timbre.fundamental_hz
        inside = band_level(clip.audio[round((start + 0.05) * rate) : round((end - 0.05) * rate)], rate, hz)
        before = band_level(clip.audio[: round((start - 0.05) * rate)], rate, hz)
        after = band_level(clip.audio[round((end + 0.05) * rate) : 8 * rate], rate, hz)
        assert inside > 3 * max(before, after), name


def test_sounding_intervals_by_hand(file: Path) -> None:
    assert sorted(sounding(load_annotations(file))) == [
        ("bell", Interval(6.0, 7.25)),
        ("nobody", Interval(6.0, 7.25)),
        ("old dog", Interval(1.8, 5.3)),
    ]
    assert joined([Interval(5, 6), Interval(0, 2), Interval(1, 3)]) == [Interval(0, 3), Interval(5, 6)]
    assert asked_interval("What objects make sound between 3 and 12.5, and where are they?") == Interval(3, 12.5)
    assert asked_interval("between you and me, between 1 and 1, who barks?") is None


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("2.0: [100.0, 60.0, 200.0, 120.0]", "2.0: [50.0, 15.0, 100.0, 30.0]"),
        (" 2.5:[1,1,1.1,1.1]", "2.5: [0.5, 0.2, 0.6, 0.3]"),  # never flat
        ("0.0: [0.0, 0.0, 0.0, 0.0]", "0.0: [0.0, 0.0, 0.0, 0.0]"),
        ("<when>[1.0, 2.0]</when>", "<when>[1.0, 2.0]</when>"),
        ("<object>a: [b, c, d, e]</object>", "<object>a: [b, c, d, e]</object>"),
        ("3.0: [1, 2, 3]", "3.0: [1, 2, 3]"),
    ],
)
def test_rescaling_a_line(line: str, wanted: str) -> None:
    assert rescale_line(line, (0.5, 0.25)) == wanted


def _with(tmp_path: Path, **changes: object) -> Path:
    path = tmp_path / "bad.json"
    path.write_text(json.dumps([DATA[0] | changes]))
    return path


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"video_name": "../up"}, "video_name"),
        ({"video_name": "/abs"}, "video_name"),
        ({"video_name": "a/b"}, "video_name"),
        ({"video_name": "x" * 300}, "video_name"),
        ({"duration": 1e7}, "duration"),
        ({"duration": "long"}, "duration"),
    ],
)
def test_annotations_that_cannot_be_rendered(tmp_path: Path, changes: dict, named: str) -> None:
    with pytest.raises(AvstError, match=named) as error:
        render_annotations(_with(tmp_path, **changes), tmp_path / "out")
    assert "bad.json" in str(error.value)
    assert not list(tmp_path.rglob("*.mp4"))


def test_a_box_beyond_any_frame_is_refused(tmp_path: Path) -> None:
    text = json.dumps(DATA).replace("239.0]", "99999.0]")
    (tmp_path / "bad.json").write_text(text)
    with pytest.raises(AvstError, match=r"-first_1/0/st/0: field \"A\""):
        render_annotations(tmp_path / "bad.json", tmp_path / "out")


def test_real_annotations_are_rendered_and_rescaled_cleanly(shared_data: Path, tmp_path: Path) -> None:
    real = json.loads((shared_data / "r_avst_dev_QA.json").read_text())
    some = [entry for entry in real if any("AV ST Reasoning" in e for e in entry["annotation"])][:3]
    (tmp_path / "QA.json").write_text(json.dumps(some))
    made = render_annotations(
        tmp_path / "QA.json", tmp_path / "out", AnnotatedSettings(fps="1", max_side=96), workers=2
    )
    before, after = load_annotations(tmp_path / "QA.json"), load_annotations(made.annotations["all"])
    assert [(q.id, q.text, q.gold_names) for q in before] == [(q.id, q.text, q.gold_names) for q in after]
    for old, new in zip(before, after, strict=True):
        clip = decode(made.videos / f"{new.video}.mp4")
        assert abs(len(clip.frames) - new.duration_s) <= 0.5 + 1e-6
        assert max(clip.frames.shape[1:3]) <= 96
        for a, b in zip(old.gold.objects, new.gold.objects, strict=True):
            assert a.intervals == b.intervals
            assert a.track.times_s == b.track.times_s
            height, width = clip.frames.shape[1:3]
            for x, y in zip(a.track.boxes_px, b.track.boxes_px, strict=True):
                assert any(x) == any(y)
                assert y[2] <= width
                assert y[3] <= height
