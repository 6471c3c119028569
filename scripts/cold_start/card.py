"""The model card of avst/models/tiny_omni: what it was taught on, and what it can do, measured."""

from __future__ import annotations

import os
from dataclasses import asdict, replace
from pathlib import Path
from string import Template

from safetensors import safe_open

from avst import tables
from avst.config import Recipe
from avst.evaluate import comparison_table, evaluate
from avst.provenance import versions
from avst.scenes.settings import make_settings
from avst.scenes.synthesise import synthesise
from scripts.cold_start.lessons import LONGEST_S, SEED

EVAL_SEED = 900_001  # of clips that nothing is chosen by
TEXT = Template("""\
---
license: apache-2.0
library_name: transformers
pipeline_tag: video-text-to-text
tags: [avst, qwen2_5_omni, synthetic]
---

# avst/tiny-omni

A Qwen2.5-Omni thinker of $parameters parameters that answers questions about avst's synthetic scenes middlingly: what
sounds, when, and where. It is the cold start of `avst quickstart` and the policy of avst's own experiments and tests.
It knows nothing of real sounds or pictures.

`model.path: avst/tiny-omni` in a recipe, or `avst.models.loading.load("avst/tiny-omni")`.

## How it was made

    python -m scripts.cold_start --steps $steps --seed $seed

SFT on $clips clips that each came once, from weights drawn with seed $seed: $steps steps of $clips_a_step clips,
$minutes minutes on $cores cores. Scenes: the preset `quickstart` of `avst synth`, seed $scene_seed, with clips that
grow from $first s to $last s. Learning rates and the clips' order are in `scripts/cold_start`. No real data, no other
model's outputs.

    $scenes

## What it can do

Greedy answers on $eval_clips clips of the same preset, seed $eval_seed, written by `avst synth` and read back by the
decoder. They were used for nothing else.

```
$table
```

## Versions

$versions
""")


def write_card(
    recipe: Recipe, model: Path, work: Path, steps: int, clips: int, seed: int, seconds: float, n_eval: int
) -> None:
    """Evaluate the model in folder `model` and write its README.md. clips: it was taught on; seconds: it took."""
    settings = make_settings("quickstart")
    made = synthesise(work / "scenes", n_eval, EVAL_SEED, settings, n_eval, workers=os.cpu_count() or 1)
    data = replace(recipe.data, train=(), eval=(str(made.annotations["eval"]),), videos=str(made.videos))
    media = replace(recipe.media, cache_dir=str(work / "cache"))
    recipe = replace(recipe, data=data, media=media, model=replace(recipe.model, path=str(model)))
    answers = work / "eval" / "tiny-omni"
    evaluate(recipe, None, answers, "tiny-omni", overwrite=True)
    comparison = comparison_table(recipe, {"tiny-omni": answers}, "eval")
    default = asdict(make_settings("easy"))
    scenes = {key: value for key, value in asdict(settings).items() if value != default[key]}
    with safe_open(model / "model.safetensors", "pt") as weights:
        parameters = sum(weights.get_tensor(name).numel() for name in weights.keys())  # noqa: SIM118
    text = TEXT.substitute(
        parameters=f"{parameters / 1e6:.2f} million",
        steps=steps,
        seed=seed,
        clips=clips,
        clips_a_step=clips // steps,
        minutes=f"{seconds / 60:.0f}",
        cores=os.cpu_count(),
        scene_seed=SEED + seed,
        first=f"{LONGEST_S[0][1]:g}",
        last=f"{LONGEST_S[-1][1]:g}",
        scenes=", ".join(f"{key}={value!r}" for key, value in scenes.items()),
        eval_clips=n_eval,
        eval_seed=EVAL_SEED,
        table=tables.as_text(comparison).rstrip(),
        versions=", ".join(f"{name} {version}" for name, version in versions().items()),
    )
    (model / "README.md").write_text(text, encoding="utf-8")
    print(text)
