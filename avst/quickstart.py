"""The whole of avst on two CPU cores, in minutes: scenes, GRPO from the packaged policy, tables, plot, a look."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from avst import tables
from avst.config import Recipe
from avst.evaluate import comparison_table, evaluate, write_tables
from avst.plots import plot_rewards
from avst.run_folder import RunFolder
from avst.runs import run_grpo
from avst.scenes.settings import make_settings
from avst.scenes.synthesise import synthesise
from avst.watch.safe_text import safe


def quickstart(recipe: Recipe, out: Path, clips: int = 350, say: Callable[[str], None] = print) -> Path:
    """Run everything into `out` and return the folder of the trained model.

    recipe: recipes/quickstart.yaml; its paths are set to folders of `out` here. Clips that are there already are kept,
    runs are made anew.
    """
    with _stage(say, f"1/4  {clips} audio-visual clips with exact annotations, a fifth of them held out"):
        scenes = synthesise(
            out / "scenes", clips, recipe.seed, make_settings("quickstart"), clips // 5, workers=os.cpu_count() or 1
        )
    data = replace(
        recipe.data,
        train=(str(scenes.annotations["train"]),),
        eval=(str(scenes.annotations["eval"]),),
        videos=str(scenes.videos),
    )
    media = replace(recipe.media, cache_dir=str(out / "cache"))
    recipe = replace(recipe, data=data, media=media, output_dir=str(out / "grpo"))

    with _stage(
        say, f"2/4  GRPO from {recipe.model.path}: sample answers, score them by four rewards, learn from the better"
    ):
        final = run_grpo(recipe, overwrite=True)
    with _stage(say, "3/4  greedy answers on held-out clips, before and after"):
        folders = {}
        for name, checkpoint in (("before", None), ("after GRPO", str(final))):
            folders[name] = out / "eval" / name.replace(" ", "_")
            evaluate(recipe, checkpoint, folders[name], name, overwrite=True)
        comparison = comparison_table(recipe, folders, "eval")
        write_tables(comparison, out / "eval")
    say("\n4/4  results\n")
    say(tables.as_text(comparison))
    run = RunFolder(out / "grpo")
    plot = plot_rewards(run.metrics(), out / "rewards.png")
    say(_a_look(list(run.completions())))
    say(f"plot of the rewards  {plot}")
    say(f"tables               {out / 'eval'}")
    say(f"every answer         {out / 'grpo' / 'completions'}")
    say(f"the model            {final}")
    say(f"all of it as a page  avst report {out / 'grpo'}")
    return final


def _a_look(rows: list[dict[str, Any]]) -> str:
    """The last group with any spread: its question, and its best and worst answer with what they were paid for."""
    groups: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["step"], row["question_id"]), []).append(row)
    spread = [g for g in groups.values() if len({row["total"] for row in g}) > 1]
    if not spread:
        return ""
    group = sorted(spread[-1], key=lambda row: row["total"])
    lines = [f"one group of step {group[0]['step']}: {safe(group[0]['prompt'])}"]
    lines.append(f"  gold  {safe(group[0]['gold'])}")
    for title, row in (("best", group[-1]), ("worst", group[0])):
        parts = "  ".join(
            f"{name.removeprefix('reward_')} {value:.2f}"
            for name, value in row.items()
            if name.startswith("reward_") and value is not None
        )
        lines.append(f"  {title:6}{safe(row['completion'])}")
        lines.append(f"        total {row['total']:.2f} ({parts})  advantage {row['advantage']:+.2f}")
    return "\n".join(lines) + "\n"


@contextmanager
def _stage(say: Callable[[str], None], title: str) -> Any:
    say(f"\n{title}")
    start = time.monotonic()
    yield
    say(f"     done in {time.monotonic() - start:.0f} s")
