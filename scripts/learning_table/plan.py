"""The cells of the learning table: those of `avst ablate`, SFT for as long, and a control that cannot learn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from avst.ablation.plan import FULL, Plan, Variant, make_plan
from avst.scenes.settings import make_settings
from avst.scenes.synthesise import Synthesised, synthesise

ROOT = Path(__file__).resolve().parents[2]
DROPPED = ("temporal", "spatial", "object", "format")
SCENE_SEED = 4_242  # neither the packaged policy nor any choice of a setting has seen these clips
CONTINUED = "SFT continued"
SHUFFLED = "shuffled rewards"
TITLES = {FULL: "GRPO", "untrained": "SFT only"}


def make_clips(out: Path, train: int, held_out: int, workers: int) -> Synthesised:
    """Clips that are there already are kept."""
    return synthesise(out, train + held_out, SCENE_SEED, make_settings("quickstart"), held_out, workers)


def learning_plan(scenes: Synthesised, out: Path, seeds: int, sft_steps: int, overrides: Sequence[str]) -> Plan:
    """seeds: how many;  sft_steps: of continued SFT, so many that it takes as long as GRPO."""
    settings = [
        f"data.train={scenes.annotations['train']}",
        f"data.eval={scenes.annotations['eval']}",
        f"data.videos={scenes.videos}",
        f"media.cache_dir={out / 'cache'}",
        *overrides,
    ]
    plan = make_plan(ROOT / "recipes" / "quickstart.yaml", settings, DROPPED, seeds=str(seeds), out=out)
    none = tuple(f"rewards.{name}=null" for name in DROPPED)
    control = f"rewards.shuffled={{use: '{ROOT}/scripts/learning_table/controls.py:shuffled', weight: 1}}"
    more = (
        Variant(CONTINUED, (f"sft.max_steps={sft_steps}",), ("sft.max_steps",), command="sft"),
        Variant(SHUFFLED, (*none, control), ("rewards",)),
    )
    return replace(plan, variants=(*plan.variants, *more))
