"""What do GRPO and each of its rewards teach? A table like the paper's fourth, on clips held out from everything.

    python -m scripts.learning_table                  all of it: 21 cells of some minutes each
    python -m scripts.learning_table --seeds 1 --train 60 --held-out 20 --sft-steps 4 grpo.max_steps=4     a look at it

Every row starts from the packaged policy (`avst/tiny-omni`). Rows: the policy itself ("SFT only"); SFT continued on the
same clips for as long; GRPO with the quickstart's recipe; GRPO without each reward; GRPO with the totals of a group
dealt out at random, which must teach nothing; the trivial answers. Then GRPO's answers with the sound muted and
swapped. Interrupted, the same command goes on. Settings were chosen on the quickstart's own clips, which are others.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from avst.ablation import table as ablation_table
from avst.ablation.gather import write
from avst.ablation.plan import Plan
from avst.ablation.run import run_all, run_one
from avst.run_folder import RunFolder
from scripts.learning_table.hearing import hearing
from scripts.learning_table.plan import learning_plan, make_clips
from scripts.learning_table.summary import as_csv, as_lines, as_markdown, by_cell


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="of recipes/quickstart.yaml, for all rows")
    parser.add_argument("--out", type=Path, default=Path("runs/learning_table"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--train", type=int, default=600, help="clips to train on")
    parser.add_argument("--held-out", type=int, default=200, help="clips to answer")
    parser.add_argument("--sft-steps", type=int, default=400, help="of continued SFT; the table shows the minutes")
    parser.add_argument("--cell", help="train and evaluate this one alone (for several processes at once)")
    parser.add_argument("--table-only", action="store_true")
    args = parser.parse_intermixed_args()
    scenes = make_clips(args.out / "scenes", args.train, args.held_out, os.cpu_count() or 1)
    plan = learning_plan(scenes, args.out, args.seeds, args.sft_steps, args.overrides)
    if args.cell:
        return run_one(plan, args.cell)
    complete = args.table_only or run_all(plan)
    found, folder = write(plan, "eval")
    lines = as_lines(by_cell(ablation_table.as_records(found)), minutes(plan))
    parts = [as_markdown(lines), as_markdown(hearing(plan)) if complete else "", *(f"* {note}" for note in found.notes)]
    (folder / "learning_table.md").write_text("\n".join(parts) + "\n", encoding="utf-8")
    (folder / "learning_table.csv").write_text(as_csv(lines), encoding="utf-8")
    (folder / "learning_table.json").write_text(
        json.dumps({"records": ablation_table.as_records(found), "minutes": minutes(plan)}, indent=1) + "\n",
        encoding="utf-8",
    )
    print("\n".join(parts))
    return 0 if complete else 1


def minutes(plan: Plan) -> dict[str, float]:
    """Row -> minutes of training, all its starts together, the mean over the seeds that are finished."""
    found: dict[str, list[float]] = {}
    for cell in plan.cells:
        starts = {row["start"]: row["elapsed_s"] for row in RunFolder(cell.folder).metrics() if "elapsed_s" in row}
        if starts and (cell.folder / "final").is_dir():
            found.setdefault(cell.variant.name, []).append(sum(starts.values()) / 60)
    return {name: sum(times) / len(times) for name, times in found.items()}


if __name__ == "__main__":
    raise SystemExit(main())
