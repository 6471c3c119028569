"""The gold: a scene's questions and answers in the R-AVST file format.

The definitions are strict, so that every question has one answer:

    temporal, st   when the named object is seen and heard at once
    spatial        over [s, e]: every object that is at some moment of it seen and heard at once ("visible
                   object(s) make sound"), or that is seen in it and never heard in it ("silent object(s)")

Boxes stand at s, s + 1, … before e; a second at which the object is not on screen gets four zeros, as the real files.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from avst.scenes.motion import boxes_on_frames, clip_boxes, frame_at
from avst.scenes.plan import Actor, Scene
from avst.types import TASKS, Interval, Task

FILE_KEYS: dict[Task, str] = {
    "temporal": "AV Temporal Reasoning",
    "spatial": "AV Spatial Reasoning",
    "st": "AV ST Reasoning",
}
WORDINGS: dict[str, dict[str, str]] = {
    "data": {
        "temporal": "When is the moment {name} makes sound and is visible?",
        "st": 'When is the moment {name} makes sound and is visible, and where is the "{name}"?',
        "sounding": "What visible object(s) make sound between {start} and {end}, and where is/are they?",
        "silent": "What silent object(s) can be seen between {start} and {end}, and where is/are they?",
    },
    "paper": {
        "temporal": "When is the moment {name} make sound and are visible?",
        "st": "When is the moment {name} make sound and are visible, and where are they?",
        "sounding": "What objects make sound between {start} and {end}, and where are they?",
        "silent": "What silent objects can be seen between {start} and {end}, and where are they?",
    },
}
QA = dict[str, str]


def annotate(
    scene: Scene, tasks: tuple[Task, ...] = TASKS, wording: str = "data", questions_per_clip: int = 0
) -> dict[str, Any]:
    """The clip's entry of a file: {video_name, duration, annotation: [{event_num, "AV … Reasoning": [{Q, A}]}]}.

    questions_per_clip: at most so many, drawn with the scene's seed, the tasks in turn (0: all of them).
    """
    asked = [
        (event_num, task, qa)
        for event_num, event in enumerate(scene.events, start=1)
        for task, qa in _event_questions(scene, event.interval, [scene.actors[i] for i in event.actors], wording)
        if task in tasks
    ]
    entries: dict[int, dict[str, Any]] = {}
    for event_num, task, qa in _in_turn(asked, scene.seed, questions_per_clip):
        entry = entries.setdefault(event_num, {"event_num": event_num})
        entry.setdefault(FILE_KEYS[task], []).append(qa)
    return {"video_name": scene.name, "duration": scene.duration_s, "annotation": list(entries.values())}


def _event_questions(scene: Scene, during: Interval, cast: list[Actor], wording: str) -> list[tuple[Task, QA]]:
    """Temporal and st for each sounding-visible object of the event, spatial for its sounding and its silent ones."""
    words = WORDINGS[wording]
    found: list[tuple[Task, QA]] = []
    for actor in cast:
        when = actor.sounding_visible
        if when is not None:
            name, where = actor.thing.name, where_block(scene, actor, when)
            interval = f"<object>{name}</object>\n<when>[{number(when.start)}, {number(when.end)}]</when>"
            found.append(("temporal", _qa(words["temporal"].format(name=name), interval)))
            found.append(("st", _qa(words["st"].format(name=name), f"{interval}\n{where}")))
    sounding = [a for a in scene.actors if _meet(a.sounding_visible, during)]
    silent = [a for a in scene.actors if _meet(a.visible, during) and not _meet(a.sound, during)]
    for kind, actors in (("sounding", sounding), ("silent", silent)):
        blocks = [f"<object>{a.thing.name}</object>\n{where_block(scene, a, during)}" for a in actors]
        if blocks:
            text = words[kind].format(start=number(during.start), end=number(during.end))
            found.append(("spatial", _qa(text, "\n".join(blocks))))
    order = {task: i for i, task in enumerate(TASKS)}
    return sorted(found, key=lambda entry: order[entry[0]])


def where_block(scene: Scene, actor: Actor, during: Interval) -> str:
    """`<where>` with a box a second over [start, end); an actor that is never seen gets zeros throughout."""
    lines = []
    for second in range(int(np.ceil(during.end - during.start - 1e-9))):
        time = during.start + second
        box = (0, 0, 0, 0) if actor.path is None else box_at(scene, actor, time)
        lines.append(f"{number(time)}: [{', '.join(number(v) for v in box)}]")
    return "\n".join(["<where>", *lines, "</where>"])


def box_at(scene: Scene, actor: Actor, time_s: float) -> tuple[int, int, int, int]:
    """The box drawn in the frame on screen at this time, cut at the frame's edges; four zeros where there is none."""
    if actor.path is None:
        return (0, 0, 0, 0)
    boxes, seen = boxes_on_frames(actor.path, scene.size, scene.fps, scene.n_frames)
    at = frame_at(time_s, scene.fps)
    if not (0 <= at < scene.n_frames and seen[at]):
        return (0, 0, 0, 0)
    x1, y1, x2, y2 = (int(v) for v in clip_boxes(boxes[at], scene.size))
    return (x1, y1, x2, y2)


def number(value: float) -> str:
    """As the real files write numbers: at least one decimal. 2 -> "2.0", 2.25 -> "2.25"."""
    return repr(round(float(value), 3))


def _qa(question: str, answer: str) -> QA:
    return {"Q": question, "A": f"<answer>\n{answer}\n</answer>"}


def _meet(a: Interval | None, b: Interval) -> bool:
    return a is not None and min(a.end, b.end) > max(a.start, b.start)


def _in_turn(asked: list[tuple[int, Task, QA]], seed: tuple[int, ...], at_most: int) -> list[tuple[int, Task, QA]]:
    """At most so many of the questions in their order, tasks in turn, beginning with another from clip to clip."""
    if not at_most or len(asked) <= at_most:
        return asked
    rng = np.random.default_rng([*seed, 3])
    ranks: list[tuple[int, int, int]] = []
    taken: dict[Task, int] = dict.fromkeys(TASKS, 0)
    for i in rng.permutation(len(asked)):
        task = asked[i][1]
        ranks.append((taken[task], (TASKS.index(task) - seed[-1]) % len(TASKS), int(i)))
        taken[task] += 1
    return [asked[i] for i in sorted(i for _, _, i in sorted(ranks)[:at_most])]
