"""The real R-AVST questions without their videos: clips rendered from the annotations, GRPO for a few steps, tables.

    python scripts/real_questions.py ANNOTATIONS.json --out runs/real_questions [--kind qwen2_5_omni]

Renders a clip for every video of the annotations at low resolution (boxes followed second by second, tones inside the
sounding intervals), makes a tiny model, shows it the form of a temporal answer by a short SFT, takes 8 optimizer
steps of GRPO and answers every question. The model is far too small, and trained on what it is asked, so its figures
mean nothing: the point is that real annotations, up to a minute long and with up to eight objects, go through every
part. The trivial answers' rows in the table do mean something.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import replace
from pathlib import Path

from avst import tables
from avst.config import load_recipe
from avst.evaluate import comparison_table, evaluate
from avst.models.tiny import make_tiny
from avst.runs import run_grpo, run_sft
from avst.scenes.from_annotations import AnnotatedSettings, render_annotations

RECIPE = """
name: real_questions
output_dir: {out}/{kind}
model: {{path: {out}/tiny_{kind}, dtype: float32}}
data: {{train: {annotations}, eval: {annotations}, videos: {videos}}}
media: {{fps: 1.0, max_frames: 40, min_pixels: 3136, max_pixels: 12544, cache_dir: {out}/cache}}
sft: {{max_steps: {sft_steps}, per_device_train_batch_size: 4, learning_rate: 2.0e-3, logging_steps: 20}}
grpo:
  num_generations: 6
  per_device_train_batch_size: 12
  max_completion_length: 128
  learning_rate: 1.0e-4
  beta: 0.04
  max_steps: 8
  use_cpu: true
  bf16: false
  gradient_checkpointing: false
eval: {{max_new_tokens: 256, batch_size: 16}}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("annotations", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/real_questions"))
    parser.add_argument("--kind", choices=("qwen2_5_omni", "qwen2_5_vl"), action="append", help="default: both")
    parser.add_argument("--max-side", type=int, default=160, help="of the rendered clips, px")
    parser.add_argument("--sft-steps", type=int, default=150, help="of the cold start")
    args = parser.parse_args()
    out = args.out.resolve()
    start = time.monotonic()
    settings = AnnotatedSettings(fps="2", max_side=args.max_side)
    made = render_annotations(args.annotations, out / "clips", settings, workers=os.cpu_count() or 1)
    print(
        f"rendered {made.n_clips['all']} clips, {made.n_questions['all']} questions: {time.monotonic() - start:.0f} s"
    )
    for kind in args.kind or ("qwen2_5_omni", "qwen2_5_vl"):
        make_tiny(kind, out / f"tiny_{kind}", hidden=64, layers=2)
        places = {"out": out, "annotations": made.annotations["all"], "videos": made.videos}
        text = RECIPE.format(kind=kind, sft_steps=args.sft_steps, **places)
        recipe_file = out / f"{kind}.yaml"
        recipe_file.write_text(text, encoding="utf-8")
        recipe = load_recipe(recipe_file)
        start = time.monotonic()
        # the temporal questions alone: in so few steps the long lists of boxes would drown the form of an answer
        form = replace(recipe.data, tasks=("temporal",))
        cold = run_sft(replace(recipe, data=form, output_dir=f"{recipe.output_dir}-sft"), overwrite=True)
        print(f"{kind}: {args.sft_steps} steps of SFT: {time.monotonic() - start:.0f} s")
        start = time.monotonic()
        final = run_grpo(recipe, cold, overwrite=True)
        print(f"{kind}: 8 optimizer steps of GRPO: {time.monotonic() - start:.0f} s")
        start = time.monotonic()
        folder = out / "eval" / kind
        evaluate(recipe, final, folder, kind, overwrite=True)
        print(f"{kind}: every question answered: {time.monotonic() - start:.0f} s\n")
        print(tables.as_text(comparison_table(recipe, {kind: folder}, "eval")))


if __name__ == "__main__":
    main()
