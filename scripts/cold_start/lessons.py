"""What the tiny model is taught, in which order: short clips with one thing first, the real ones last.

A box is found in a clip of one second after some hundred steps; asked for it in clips of six from the beginning, a
model of this size still guessed after a thousand. So clips grow, and things that are silent or hidden come later. What
came first keeps coming back now and then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from torch.utils.data import Dataset

from avst.prompt import PromptBuilder
from avst.scenes.in_memory import scene_clip, scene_questions
from avst.scenes.plan import plan_scene
from avst.scenes.settings import SceneSettings, make_settings
from avst.types import Prompt

SEED = 1_000_000  # of the scenes: none of them is in a quickstart's clips, whose seeds are small numbers
LONGEST_S = ((0.0, 1.0), (0.12, 2.0), (0.24, 3.0), (0.36, 4.0), (0.48, 6.0))  # share of the lessons -> clips' length
NEWEST = 0.6  # share of the clips that have the longest length there is so far
ALONE = ((0.08, 1.0), (0.28, 0.1))  # share of the clips in which nothing is silent or hidden, between these two points


def settings_at(progress: float, rng: np.random.Generator) -> SceneSettings:
    """How hard a clip is after `progress` (0 to 1) of the lessons."""
    real = make_settings("quickstart")
    lengths = [seconds for begin, seconds in LONGEST_S if progress >= begin]
    duration = lengths[-1] if rng.random() < NEWEST else float(rng.choice(lengths))
    (start, most), (stop, least) = ALONE
    alone = float(np.interp(progress, (start, stop), (most, least)))
    easier = replace(
        real,
        duration_s=(duration, duration),
        sound_s=(min(real.sound_s[0], duration / 2), min(real.sound_s[1], duration)),
    )
    return replace(easier, n_silent=(0, 0), n_hidden=(0, 0)) if rng.random() < alone else easier


class Lessons(Dataset[list[Prompt]]):
    """Clip i of n, with the prompts of all its questions; each is drawn when it is asked for and never comes again."""

    def __init__(self, n: int, prompts: PromptBuilder, fps: float, seed: int) -> None:
        self.n, self.prompts, self.fps, self.seed = n, prompts, fps, seed

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> Sequence[Prompt]:
        settings = settings_at(index / self.n, np.random.default_rng([SEED, self.seed, index]))
        scene = plan_scene(settings, SEED + self.seed, index)
        return self.prompts.build_all(scene_questions(scene, settings), scene_clip(scene, self.fps))
