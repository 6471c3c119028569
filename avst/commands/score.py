"""`avst score`: rewards and metrics of predictions in a file. No model; no video unless boxes are in model space."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from avst import tables
from avst.config import Recipe, load_recipe
from avst.durable import write_atomically
from avst.errors import AvstError
from avst.metrics import QuestionResult
from avst.plugins import RewardSpec, Weight, load_reward, load_specs
from avst.scores import Scores, read_predictions, score_completions
from avst.scoring import Scorer
from avst.tasks.r_avst import load_annotations
from avst.trivial import annotated_extent, most_frequent_name
from avst.types import Question, Space, Task
from avst.watch.safe_text import safe_lines
from avst.word_vectors import WordVectors


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--annotations", type=Path, required=True, metavar="A.json", help="annotations in R-AVST's format")
    add("--predictions", type=Path, required=True, metavar="P.jsonl", help='a {"id", "completion"} a line')
    add("--out", type=Path, required=True, metavar="scores.json", help="where the scores are written")
    add("--word-vectors", type=Path, metavar="F", help="word2vec file for names, or equal_names (default: avst's own)")
    add(
        "--tau",
        type=float,
        metavar="X",
        help="similarity from which two names are the same (default: the vectors' own)",
    )
    add("--recipe", type=Path, metavar="R.yaml", help="take rewards, word vectors and what the model saw from a recipe")
    add("--videos", type=Path, metavar="DIR", help="the videos, for frame sizes")
    add(
        "--space",
        choices=("source", "model"),
        default="source",
        help="predicted boxes are in pixels of the source (default) or of the frame the model saw (needs --videos)",
    )
    add(
        "--rewards",
        nargs="+",
        default=[],
        metavar="R",
        help="further rewards, with their weights: ./mine.py:my_reward, …=0.5 or …=temporal:1,st:0.5",
    )
    add("--explain", nargs="*", metavar="ID", help="print why each reward is what it is, of these questions or of all")
    add("--tables", type=Path, metavar="DIR", help="also write the tables as tables.txt, tables.json and tables.csv")


def run(args: argparse.Namespace) -> int:
    """Everything is read and checked before anything is scored, and scored before anything is written."""
    if args.space == "model" and args.videos is None:
        raise AvstError("--space model needs --videos: the model's frame follows from the video's size and length")
    recipe = load_recipe(args.recipe) if args.recipe is not None else None
    scorer = make_scorer(args, recipe)
    questions = load_annotations(args.annotations)
    completions = read_predictions(args.predictions)
    asked = _asked_to_explain(args.explain, questions)
    frames_px, spaces, notes = _frames(questions, args.videos, args.space, recipe)
    scores = score_completions(questions, completions, scorer, spaces, frames_px)
    comparison = compare(questions, {args.predictions.stem: scores}, scorer.word_vectors, frames_px, notes)
    write(args.out, json.dumps(scores.as_json(), indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    if args.tables is not None:
        write_tables(comparison, args.tables)
    result_of = {result.id: result for result in scores.results}
    for question in asked:
        print(safe_lines(explain(question, result_of[question.id], scores.reasons[question.id], scorer.specs)))
    print(tables.as_text(comparison))
    print(
        f"{len(questions)} questions, {scores.missing} without a prediction (0 in every figure), "
        f"{len(scores.unknown_ids)} predictions with an unknown id; scores in {args.out}"
    )
    if questions and scores.missing == len(questions):
        print("no prediction has the id of any question: every figure above is 0 for that reason", file=sys.stderr)
    return 0


def make_scorer(args: argparse.Namespace, recipe: Recipe | None) -> Scorer:
    """The recipe's rewards (the default four without one) and those of --rewards; AvstError names what is wrong."""
    chosen = None
    if recipe is not None:
        chosen = {name: {"use": entry.use, "weight": entry.weight} for name, entry in recipe.rewards.items()}
    specs = load_specs(chosen)
    for reference in args.rewards:
        use, _, weight = reference.partition("=")
        specs.append(RewardSpec(use.rpartition(":")[2], load_reward(use), _weight(weight, reference)))
    vectors, tau, mapped = args.word_vectors, args.tau, True
    if recipe is not None:
        vectors = recipe.word_vectors.path if vectors is None else vectors
        tau = recipe.word_vectors.tau if tau is None else tau
        mapped = recipe.word_vectors.mapped
    words = WordVectors.load(vectors, tau, mapped)
    return (
        Scorer(specs, words) if recipe is None else Scorer(specs, words, recipe.reward_errors, recipe.reward_deadline_s)
    )


def _weight(text: str, reference: str) -> Weight:
    try:
        if ":" not in text:
            return float(text or 1.0)
        parts = [part.partition(":") for part in text.split(",")]
        return cast(dict[Task, float], {task.strip(): float(weight) for task, _, weight in parts})
    except ValueError as error:
        raise AvstError(f"--rewards {reference}: a weight is 0.5 or temporal:1,st:0.5, not {text!r}") from error


def _frames(
    questions: Sequence[Question], videos: Path | None, space: str, recipe: Recipe | None
) -> tuple[dict[str, tuple[float, float]], dict[str, Space] | None, list[str]]:
    """(video -> frame size in px, video -> box space or None for source pixels, footnotes of the table)."""
    frames_px = annotated_extent(questions)
    if videos is None:
        return frames_px, None, ["whole frame: up to the largest x2 and y2 annotated in the video (no --videos)"]
    from avst.media import MediaError, probe, video_path

    spaces: dict[str, Space] = {}
    unknown = 0
    for name in dict.fromkeys(q.video for q in questions if q.task != "temporal"):
        try:
            path = video_path(videos, name)
            info = probe(path)
        except MediaError:
            if space == "model":
                raise
            unknown += 1
            continue
        frames_px[name] = (float(info.width), float(info.height))
        if space == "model":
            from avst.prompt import space_for_video

            spaces[name] = space_for_video(path, recipe.media if recipe is not None else None)
    notes = [f"whole frame: up to the largest x2 and y2 annotated in {unknown} videos that cannot be read"]
    return frames_px, spaces if space == "model" else None, notes if unknown else []


def compare(
    questions: Sequence[Question],
    scores: Mapping[str, Scores],
    words: WordVectors,
    frames_px: Mapping[str, tuple[float, float]],
    notes: Sequence[str] = (),
) -> tables.Comparison:
    """The tables of one or several sets of scores (name -> scores) with the trivial answers beside them."""
    trivials = tables.trivial_results(questions, words, frames_px)
    name = most_frequent_name(questions)
    named = [f"most frequent name: {name!r}"] if name else []
    return tables.compare({model: s.results for model, s in scores.items()}, trivials, [*notes, *named])


def write(path: Path, text: str) -> None:
    """Write a file that is there whole or not at all, with the folders above it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text)
    except OSError as error:
        raise AvstError(f"{path}: cannot be written: {error.strerror or error}") from error


def write_tables(comparison: tables.Comparison, folder: Path) -> None:
    """folder/tables.txt, tables.json and tables.csv."""
    write(folder / "tables.txt", tables.as_text(comparison))
    write(folder / "tables.json", json.dumps(tables.as_json(comparison), indent=1, ensure_ascii=False) + "\n")
    write(folder / "tables.csv", tables.as_csv(comparison))


def _asked_to_explain(ids: Sequence[str] | None, questions: Sequence[Question]) -> list[Question]:
    if ids is None:
        return []
    by_id = {question.id: question for question in questions}
    unknown = [question_id for question_id in ids if question_id not in by_id]
    if unknown:
        raise AvstError(f"--explain: the annotations have no question {unknown[0]!r}")
    return [by_id[question_id] for question_id in ids] or list(questions)


def explain(
    question: Question, result: QuestionResult, reasons: Mapping[str, Sequence[str]], specs: Sequence[RewardSpec]
) -> str:
    """A question's rewards, each with its weight and what the reward function said about it."""
    lines = [f"{question.id}  total {result.rewards['total']:.4g}  {question.text}"]
    for spec in specs:
        value, weight = result.rewards[spec.name], spec.weight_for(question.task)
        shown = "does not apply" if value is None else f"{value:.4f}"
        lines.append(f"  {spec.name:<12} {shown}" + ("" if value is None else f"  x {weight:g}"))
        lines += [f"      {reason}" for reason in reasons.get(spec.name, ())]
    if result.problems:
        lines.append("  problems     " + ", ".join(f"{reason} x{n}" for reason, n in result.problems.items()))
    return "\n".join(lines)
