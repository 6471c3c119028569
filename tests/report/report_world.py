"""A run that no model made: real clips, real annotations, and answers that are the gold ones shaken by a known amount.

So every reward on the page can be worked out apart from the page.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from avst.answer import map_boxes, render
from avst.config import Recipe, load_recipe
from avst.eval_folder import EvalFolder, identity
from avst.run_folder import RunFolder
from avst.scenes.settings import make_settings
from avst.scenes.synthesise import Synthesised, synthesise
from avst.scoring import Scorer, load_specs
from avst.tasks.r_avst import load_annotations
from avst.types import Answer, Box, Interval, Question, Space
from avst.word_vectors import WordVectors

# What a hostile or broken model may write; every one of these must come out as text.
CANARIES = (
    "<img src=x onerror=\"document.title='pwned'\">",
    "</script><script>document.title='pwned'</script>",
    "]]><!--</pre><svg onload=document.title='pwned'>",
    "line\u2028separator \u2029 and \U0001f600 \x00\x07 \\\" ' ` ${document.title='pwned'}",
    "__proto__ constructor javascript:document.title='pwned'",
)
RECIPE = """\
name: shaken
model: {path: nowhere}
word_vectors: {path: equal_names}
data: {train: %(train)s, eval: %(eval)s, videos: %(videos)s}
media: {min_pixels: 3136, max_pixels: 50176}
grpo: {num_generations: 6, per_device_train_batch_size: 6}
"""


@dataclass(frozen=True)
class World:
    """run: the run's folder;  scenes: where its clips are;  recipe: as its recipe.yaml says."""

    run: Path
    scenes: Synthesised
    recipe: Recipe

    def questions(self, split: str) -> list[Question]:
        return load_annotations(self.scenes.annotations[split])


def make_scenes(out: Path, n: int = 4, n_eval: int = 2, **changes: Any) -> Synthesised:
    """Small clips, with several objects in some of them."""
    easy = {"resolutions": ((160, 120), (128, 160)), "duration_s": (5.0, 5.0), "n_sounding": (1, 2), "max_objects": 3}
    return synthesise(out, n, 3, make_settings("easy", **(easy | changes)), n_eval)


def make_run(
    folder: Path,
    scenes: Synthesised,
    steps: Sequence[int] = (0, 5),
    noise: Callable[[int], float] = lambda step: 0.3 if step == 0 else 0.1,
    seed: int = 0,
    with_space: bool = True,
) -> World:
    """A run whose groups at each of `steps` answer every training question six times, and two evaluations.

    noise: share of their own size by which boxes and intervals are moved.
    """
    recipe_file = folder.parent / f"{folder.name}.yaml"
    files = {split: str(path) for split, path in scenes.annotations.items()}
    recipe_file.write_text(RECIPE % {**files, "videos": str(scenes.videos)}, encoding="utf-8")
    recipe = load_recipe(recipe_file, output_dir=str(folder))
    run = RunFolder.open(recipe, "train", argv=["avst", "train"])
    world = World(folder, scenes, recipe)
    rng = random.Random(seed)
    for i, step in enumerate(steps):
        asked = enumerate(world.questions("train"))
        rows = [row for n, q in asked for row in group_rows(q, step, noise(step), rng, with_space, CANARIES[n % 5])]
        run.write_completions(step, rows)
        for log in range(8):
            run.log(metrics_row(8 * i + log, rng))
    evaluate(world, "before", "elsewhere/final", noise(min(steps, default=0)), rng)
    evaluate(world, "after", str(folder / "final"), noise(max(steps, default=0)), rng)
    return world


def evaluate(world: World, name: str, checkpoint: str, noise: float, rng: random.Random) -> None:
    """An evaluation of the held-out questions as `avst eval` would leave it."""
    questions = world.questions("eval")
    said = identity(world.recipe, checkpoint, name, "eval", questions)
    out = EvalFolder.open(world.run / "eval" / "eval" / name, said)
    for q in questions:
        space = space_of(q)
        row = {"id": q.id, "completion": shaken(q, noise, rng, space), "truncated": False}
        out.append(0, row | {"space": {"source": list(space.source), "model": list(space.model)}})


def space_of(question: Question) -> Space:
    """The model saw frames of half the size, rounded to whole pixels; any space will do that is not the source's."""
    return Space((160, 120), (80, 56))


def group_rows(
    q: Question, step: int, noise: float, rng: random.Random, with_space: bool, last: str
) -> list[dict[str, Any]]:
    """Five shaken answers and a last one, with rewards by the library's scorer and advantages as GRPO takes them."""
    space = space_of(q)
    texts = [shaken(q, noise * i / 3, rng, space) for i in range(5)] + [last]
    scores = scores_of(q, texts, space)
    totals = [s.total for s in scores]
    mean = sum(totals) / len(totals)
    spread = (sum((t - mean) ** 2 for t in totals) / (len(totals) - 1)) ** 0.5
    row = {"step": step, "question_id": q.id, "task": q.task, "prompt": q.text, "gold": q.gold_text}
    extra = {"space": [*space.source, *space.model]} if with_space else {}
    return [
        row
        | extra
        | {"completion": text, "rewards": score.rewards, "total": score.total, "truncated": False}
        | {"advantage": (score.total - mean) / (spread + 1e-4), "n_tokens": len(text) // 4}
        for text, score in zip(texts, scores, strict=True)
    ]


def scores_of(q: Question, texts: Sequence[str], space: Space) -> list[Any]:
    from avst.answer import parse

    answers = [parse(text, q.gold_names, space.to_source) for text in texts]
    return Scorer(load_specs(), WordVectors()).score([q] * len(texts), texts, answers)


def shaken(q: Question, noise: float, rng: random.Random, space: Space) -> str:
    """The gold answer in model space, with its intervals and boxes moved by up to `noise` of their own size."""

    def moved(box: Box) -> Box:
        x1, y1, x2, y2 = space.to_model(box)
        dx, dy = (rng.uniform(-noise, noise) * size for size in (x2 - x1, y2 - y1))
        x, y = max(0.0, x1 + dx), max(0.0, y1 + dy)
        return (round(x), round(y), round(x + x2 - x1) + 1.0, round(y + y2 - y1) + 1.0)

    def late(i: Interval) -> Interval:
        start = max(0.0, round(i.start + rng.uniform(-noise, noise) * (i.end - i.start), 1))
        return Interval(start, round(start + i.end - i.start, 1))

    objects = [
        replace(o, name=o.name if rng.random() > noise else "kettle", intervals=tuple(map(late, o.intervals)))
        for o in q.gold.objects
    ]
    return render(map_boxes(Answer(tuple(objects)), moved), q.task, whole_pixels=True)


def metrics_row(step: int, rng: random.Random) -> dict[str, Any]:
    """A line of metrics.jsonl under the names of avst.step_log."""
    rise = step / 40
    row: dict[str, Any] = {"step": step, "loss": 0.01, "grad_norm": 1.0 + rng.random(), "reward_std": 0.3}
    for task, base in (("temporal", 0.9), ("spatial", 0.6), ("st", 0.7)):
        row[f"reward/{task}"] = base + rise + 0.1 * rng.random()
        row[f"rewards/format/{task}"] = min(1.0, 0.6 + rise)
    row["reward"] = sum(row[f"reward/{task}"] for task in ("temporal", "spatial", "st")) / 3
    row["rewards/format/mean"] = min(1.0, 0.6 + rise)
    row["rewards/temporal/mean"] = row["rewards/temporal/temporal"] = 0.2 + rise * rng.random()
    row["rewards/spatial/mean"] = row["rewards/spatial/st"] = 0.1 + rise * rng.random()
    row["rewards/object/mean"] = row["rewards/object/spatial"] = 0.4 + 0.1 * rng.random()
    return row | {"completions/mean_length": 60 - step / 4, "frac_reward_zero_std": 0.1, "elapsed_s": step}


def read(path: Path) -> Any:
    """A data file as the page reads it."""
    text = path.read_text(encoding="ascii")
    name, _, inner = text.removeprefix("avst.put(").removesuffix(");\n").partition(", ")
    assert (
        json.loads(name)
        == path.relative_to(path.parents[1 if path.parent.name == "data" else 2] / "data").with_suffix("").as_posix()
    )
    return json.loads(json.loads(inner))
