"""Scenes as the model is shown them, without a file in between: endless fresh clips for supervised training.

What an encoder would change of picture and sound is not in them.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from avst.answer import parse_gold
from avst.errors import AvstError
from avst.scenes.plan import Scene
from avst.scenes.questions import FILE_KEYS, annotate
from avst.scenes.render import scene_frames
from avst.scenes.settings import SceneSettings
from avst.scenes.sound import render_audio
from avst.types import Clip, Question

_TASKS = {key: task for task, key in FILE_KEYS.items()}


def scene_clip(scene: Scene, fps: float, audio_rate: int = 16000) -> Clip:
    """The scene at `fps` frames a second, in its own size. AvstError where the scene's rate is no multiple of it."""
    every = scene.fps / Fraction(fps)
    if every.denominator != 1:
        raise AvstError(f"{scene.name}: its {float(scene.fps):g} frames a second are no multiple of {fps:g}")
    frames = np.stack(list(scene_frames(scene))[:: int(every)])
    cues = [(actor.thing.name, actor.sound) for actor in scene.actors if actor.sound is not None]
    audio = render_audio(cues, scene.duration_s, audio_rate, scene.noise, scene.seed)
    return Clip(
        frames=frames,
        times_s=np.arange(len(frames)) / fps,
        fps=fps,
        source_size=scene.size,
        duration_s=scene.duration_s,
        audio=audio,
        audio_rate=audio_rate,
    )


def scene_questions(scene: Scene, settings: SceneSettings) -> list[Question]:
    """The scene's questions with their gold, as load_annotations would read them from its file."""
    entry = annotate(scene, settings.tasks, settings.wording, settings.questions_per_clip)
    return [
        Question(
            id=f"{scene.name}/{position}/{_TASKS[key]}/{i}",
            task=_TASKS[key],
            text=qa["Q"],
            video=scene.name,
            duration_s=scene.duration_s,
            gold=parse_gold(qa["A"]),
            gold_text=qa["A"],
        )
        for position, event in enumerate(entry["annotation"])
        for key, items in event.items()
        if key in _TASKS
        for i, qa in enumerate(items)
    ]
