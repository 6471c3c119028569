"""Scenes and their gold, recomputed another way: by looking at every hundredth of a second."""

from __future__ import annotations

import json
import re
from collections import Counter
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from avst.answer import parse_gold, render
from avst.errors import AvstError
from avst.scenes.motion import Path as Way
from avst.scenes.motion import boxes_on_frames, clip_boxes
from avst.scenes.plan import Actor, Event, Scene, plan_scene
from avst.scenes.questions import FILE_KEYS, annotate
from avst.scenes.settings import PRESETS, SceneSettings, make_settings, parse_fps
from avst.scenes.world import thing
from avst.tasks.r_avst import TASK_KEYS, load_annotations
from avst.types import TASKS, Interval

FIXED = Scene(
    name="fixed",
    duration_s=6.0,
    size=(100, 80),
    fps=Fraction(8),
    actors=(
        Actor(thing("dog"), "sounding", Way("linear", Interval(1, 4), (20, 30), (30, 0), (20, 20)), Interval(2, 5)),
        Actor(thing("cat"), "silent", Way("linear", Interval(0, 3), (80, 60), (0, 0), (20, 10)), None),
        Actor(thing("bird"), "hidden", None, Interval(1, 4)),
    ),
    events=(Event(Interval(2.0, 4.0), (0, 1, 2)),),
)


def test_a_scene_worked_out_by_hand() -> None:
    # The dog is seen 1-4, heard 2-5: both 2-4. Its centre goes from x 20 to 50 in 3 s: 30 at 2 s, 40 at 3 s.
    dog = "2.0: [20.0, 20.0, 40.0, 40.0]\n3.0: [30.0, 20.0, 50.0, 40.0]"
    when = "<object>dog</object>\n<when>[2.0, 4.0]</when>"
    assert annotate(FIXED) == {
        "video_name": "fixed",
        "duration": 6.0,
        "annotation": [
            {
                "event_num": 1,
                "AV Temporal Reasoning": [
                    {
                        "Q": "When is the moment dog makes sound and is visible?",
                        "A": f"<answer>\n{when}\n</answer>",
                    }
                ],
                "AV Spatial Reasoning": [
                    {
                        "Q": "What visible object(s) make sound between 2.0 and 4.0, and where is/are they?",
                        "A": f"<answer>\n<object>dog</object>\n<where>\n{dog}\n</where>\n</answer>",
                    },
                    {
                        "Q": "What silent object(s) can be seen between 2.0 and 4.0, and where is/are they?",
                        "A": "<answer>\n<object>cat</object>\n<where>\n2.0: [70.0, 55.0, 90.0, 65.0]\n"
                        "3.0: [0.0, 0.0, 0.0, 0.0]\n</where>\n</answer>",
                    },
                ],
                "AV ST Reasoning": [
                    {
                        "Q": 'When is the moment dog makes sound and is visible, and where is the "dog"?',
                        "A": f"<answer>\n{when}\n<where>\n{dog}\n</where>\n</answer>",
                    }
                ],
            }
        ],
    }


def _now(interval: Interval | None, time: float) -> bool:
    return interval is not None and interval.start <= time < interval.end


@pytest.mark.parametrize("difficulty", list(PRESETS))
def test_answers_hold_at_every_hundredth_of_a_second(difficulty: str) -> None:
    for index in range(25):
        scene = plan_scene(PRESETS[difficulty], 5, index)
        times = np.arange(0, scene.duration_s, 0.01) + 0.005
        both = {a.thing.name: [_now(a.visible, t) and _now(a.sound, t) for t in times] for a in scene.actors}
        seen = {a.thing.name: [_now(a.visible, t) for t in times] for a in scene.actors}
        heard = {a.thing.name: [_now(a.sound, t) for t in times] for a in scene.actors}
        assert len(both) == len(scene.actors), "a name comes twice"
        for event in annotate(scene)["annotation"]:
            for key in FILE_KEYS.values():
                for item in event.get(key, []):
                    answer = parse_gold(item["A"])
                    if key != FILE_KEYS["spatial"]:
                        (found,) = answer.objects
                        (when,) = found.intervals
                        assert both[found.name] == [_now(when, t) for t in times]
                        continue
                    start, end = (float(x) for x in re.findall(r"\d+\.\d+", item["Q"]))
                    within = [start <= t < end for t in times]
                    if "silent" in item["Q"]:
                        wanted = [
                            n
                            for n in both
                            if any(s and w for s, w in zip(seen[n], within, strict=True))
                            and not any(h and w for h, w in zip(heard[n], within, strict=True))
                        ]
                    else:
                        wanted = [n for n in both if any(b and w for b, w in zip(both[n], within, strict=True))]
                    assert sorted(o.name for o in answer.objects) == sorted(wanted)
                    for found in answer.objects:
                        assert found.track.times_s == tuple(start + i for i in range(int(np.ceil(end - start))))
                        assert any(any(box) for box in found.track.boxes_px), (scene.name, item)


@pytest.mark.parametrize("difficulty", list(PRESETS))
def test_gold_is_read_cleanly_by_the_loader_and_written_back(difficulty: str, tmp_path: Path) -> None:
    settings = PRESETS[difficulty]
    file = tmp_path / "a.json"
    file.write_text(json.dumps([annotate(plan_scene(settings, 1, i)) for i in range(20)]))
    questions = load_annotations(file)
    assert {q.task for q in questions} == set(TASKS)
    for question in questions:
        assert not question.gold.problems
        assert render(question.gold, question.task).split() == question.gold_text.split()
        for interval in (i for o in question.gold.objects for i in o.intervals):
            for time in (interval.start, interval.end):
                assert (time / settings.grid_s).is_integer()
                assert 0 <= time <= question.duration_s


def test_file_keys_and_wordings_are_those_of_the_real_file(shared_data: Path) -> None:
    assert {v: k for k, v in FILE_KEYS.items()} == TASK_KEYS

    def shapes(data: list[dict]) -> set[tuple[str, str, str]]:
        """(key, question, answer) with names and numbers masked, and box lines and further objects left out."""
        found = set()
        for event in (e for entry in data for e in entry["annotation"]):
            for key, items in event.items():
                for item in items if key != "event_num" else []:
                    question, answer = item["Q"], item["A"]
                    for name in re.findall(r"<object>(.*?)</object>", answer):
                        question = question.replace(name, "NAME")
                        answer = answer.replace(f"<object>{name}<", "<object>NAME<")
                    answer = re.sub(r"-?\d+\.\d+: \[-?\d+\.\d+(, -?\d+\.\d+){3}\]\n", "", answer)
                    more = re.compile(r"(<object>NAME</object>\n<where>\n</where>\n)+")
                    found.add(
                        (key, re.sub(r"\d+\.\d+", "N", question), re.sub(r"\d+\.\d+", "N", more.sub("MANY", answer)))
                    )
        return found

    real = json.loads((shared_data / "r_avst_dev_QA.json").read_text())
    ours = [annotate(plan_scene(PRESETS["medium"], 2, i)) for i in range(40)]
    assert set(real[0]) == set(ours[0])
    assert shapes(ours) == shapes(real)


def test_trivial_answers_earn_little() -> None:
    for difficulty in PRESETS:
        shares, areas = [], []
        for index in range(60):
            scene = plan_scene(PRESETS[difficulty], 9, index)
            for actor in scene.actors:
                when = actor.sounding_visible
                if when is not None and actor.path is not None:
                    shares.append((when.end - when.start) / scene.duration_s)
                    boxes, seen = boxes_on_frames(actor.path, scene.size, scene.fps, scene.n_frames)
                    boxes = clip_boxes(boxes[seen], scene.size)
                    areas.append(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1).mean() / np.prod(scene.size))
        assert np.mean(shares) < 0.4, difficulty  # m_tIoU of the whole clip
        assert np.mean(areas) < 0.2, difficulty  # m_vIoU of the whole frame


def test_a_clip_depends_on_seed_and_index_alone() -> None:
    settings = PRESETS["hard"]
    assert plan_scene(settings, 4, 2) == plan_scene(settings, 4, 2)
    others = [plan_scene(settings, 4, 3), plan_scene(settings, 5, 2)]
    assert all(o.actors != plan_scene(settings, 4, 2).actors for o in others)


def test_sources_differ_in_size_and_rate() -> None:
    scenes = [plan_scene(PRESETS["hard"], 0, i) for i in range(60)]
    assert {s.size for s in scenes} == set(PRESETS["hard"].resolutions)
    assert {s.fps for s in scenes} == {parse_fps(f) for f in PRESETS["hard"].fps}
    roles = Counter(a.role for s in scenes for a in s.actors)
    assert min(roles["sounding"], roles["silent"], roles["hidden"]) > 20
    assert {len(s.events) for s in scenes} == {1, 2, 3}


def test_questions_per_clip_takes_the_tasks_in_turn() -> None:
    first = []
    for index in range(6):
        (event,) = annotate(plan_scene(PRESETS["easy"], 0, index), questions_per_clip=1)["annotation"]
        first += [key for key in event if key != "event_num"]
    assert Counter(first) == dict.fromkeys(FILE_KEYS.values(), 2)
    assert set(annotate(FIXED, tasks=("st",))["annotation"][0]) == {"event_num", FILE_KEYS["st"]}
    paper = annotate(FIXED, wording="paper")["annotation"][0]
    assert paper[FILE_KEYS["temporal"]][0]["Q"] == "When is the moment dog make sound and are visible?"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"duration_s": (9.0, 3.0)}, "duration_s"),
        ({"resolutions": ((111, 112),)}, "resolutions"),
        ({"resolutions": ((112, 9000),)}, "resolutions"),
        ({"fps": ("fast",)}, "fps"),
        ({"fps": ("1/0",)}, "fps"),
        ({"fps": ("500",)}, "fps"),
        ({"grid_s": 0.3}, "grid_s"),
        ({"noise": 2.0}, "noise"),
        ({"tasks": ("what",)}, "tasks"),
        ({"names": ("dog", "Dog")}, "names"),
        ({"names": ("a, b",)}, "names"),
        ({"audio_rate": 9000}, "audio_rate"),
        ({"size": (0.0, 0.5)}, "size"),
        ({"n_sounding": (0, 1)}, "n_sounding"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_settings_that_cannot_be_used_are_named(change: dict, named: str) -> None:
    with pytest.raises(AvstError, match=named) as error:
        make_settings("easy", **change)
    assert "\n" not in str(error.value)


def test_fewer_names_than_objects_and_events_that_do_not_fit() -> None:
    settings = make_settings("hard", names=("dog", "cat"), duration_s=(4.0, 4.0), sound_s=(2.0, 8.0))
    for index in range(20):
        scene = plan_scene(settings, 0, index)
        assert len({a.thing.name for a in scene.actors}) == len(scene.actors) <= 2
        assert annotate(scene)["annotation"]
    assert isinstance(settings, SceneSettings)
