"""The held-out clips with their sound taken away, or exchanged for another clip's: what does a policy hear?"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from avst.scenes.encode import write_clip
from avst.scenes.plan import Scene, plan_scene
from avst.scenes.render import scene_frames
from avst.scenes.settings import SceneSettings
from avst.scenes.sound import render_audio


def write_clips(
    out: Path, settings: SceneSettings, seed: int, names: list[str], kind: Literal["muted", "swapped"]
) -> Path:
    """The clips of these names (scene<seed>_<index>) as `avst synth` makes them, but for their sound; returns `out`.

    muted: the noise floor alone;  swapped: what the next of `names` sounds like, so every sound is heard once.
    """
    out.mkdir(parents=True, exist_ok=True)
    scenes = [plan_scene(settings, seed, int(name.rpartition("_")[2])) for name in names]
    for i, scene in enumerate(scenes):
        path = out / f"{scene.name}.mp4"
        if not path.exists():
            heard = scenes[(i + 1) % len(scenes)] if kind == "swapped" else None
            _write(path, scene, heard, settings)
    return out


def _write(path: Path, scene: Scene, heard: Scene | None, settings: SceneSettings) -> None:
    cues = [] if heard is None else [(a.thing.name, a.sound) for a in heard.actors if a.sound is not None]
    audio = render_audio(cues, scene.duration_s, settings.audio_rate, scene.noise, scene.seed)
    write_clip(path, scene_frames(scene), scene.fps, scene.size, audio, settings.audio_rate, settings.encoder_preset)
