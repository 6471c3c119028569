"""Greedy answers of a checkpoint for a split, their scores, and the tables of the paper.

Batches are the same whoever answers them: questions are sorted once and cut into batches of eval.batch_size, and
process r of w takes every w-th batch that is not answered yet. So one process and many, a whole run and one taken up
again after a kill, give the same answers, also in bfloat16, where an answer may depend on what stands beside it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from avst import assemble, tables
from avst.answer import parse, render
from avst.checkpoint_digest import checkpoint_digest
from avst.config import Recipe
from avst.data import Skipped, Source
from avst.durable import write_atomically
from avst.errors import AvstError
from avst.eval_folder import EvalFolder, SavedAnswer, identity
from avst.media import MediaError, probe, video_path
from avst.metrics import QuestionResult, measure
from avst.model_card.writer import add_evaluation
from avst.models.families import unwrapped
from avst.processes import processes
from avst.progress import track
from avst.rollout import Sampling, end_tokens, rollout
from avst.scores import Scores, score_completions
from avst.trivial import annotated_extent, most_frequent_name
from avst.types import Answer, Clip, Group, Prompt, Question, Space
from avst.word_vectors import WordVectors

Frames = Mapping[str, tuple[float, float]]


def evaluate(
    recipe: Recipe,
    checkpoint: str | Path | None,
    out: str | Path,
    name: str = "model",
    split: str = "eval",
    overwrite: bool = False,
    retry_skipped: bool = False,
    questions: Sequence[Question] | None = None,
) -> dict[str, Any]:
    """Answer a split, or what is left of it, and write scores.json and table.txt, .json, .csv to `out`.

    checkpoint: None for the recipe's model.path;  out: one folder a model and split, seen by all processes;
    name: the model's row in the table;  overwrite: delete another evaluation that is in `out`;  retry_skipped: try
    clips again that could not be read;  questions: the split's, where the caller has read them: files that change in
    the meantime change nothing. Where every question is answered no model is loaded: new rewards cost nothing.

    Returns what scores.json holds: that of `avst score`, and "skipped" (id -> why) and "truncated" (answers that were
    cut at eval.max_new_tokens). Raises AvstError.
    """
    state = processes()
    questions = split_questions(recipe, split) if questions is None else questions
    scorer = assemble.scorer(recipe)
    folder = EvalFolder(out)
    with state.main_process_first():
        if state.is_main_process:
            path = checkpoint if checkpoint is not None else recipe.model.path
            digest = checkpoint_digest(path, recipe.model.revision if checkpoint is None else None)
            folder = EvalFolder.open(out, identity(recipe, path, digest, split, questions), overwrite)
    known = folder.read()
    state.wait_for_everyone()  # all have read before the first writes, or they would not agree on what is left
    done = {i for i, answer in known.items() if not (retry_skipped and answer.skipped is not None)}
    left = [batch for batch in batches(questions, recipe.eval.batch_size) if any(q.id not in done for q in batch)]
    if left:
        mine = left[state.process_index :: state.num_processes]
        new = _answer(recipe, checkpoint, mine)
        if state.is_main_process:
            new = track(new, f"{name}: questions", total=sum(map(len, mine)))
        for row in new:
            if row["id"] not in done:
                folder.append(state.process_index, row)
        state.wait_for_everyone()
    scores_file = folder.path / "scores.json"
    if state.is_main_process:
        answers = folder.read()
        scores = _score(recipe, questions, answers, scorer)
        skipped = {q.id: answers[q.id].skipped for q in questions if q.id in answers and answers[q.id].skipped}
        record = scores.as_json() | {"skipped": skipped, "truncated": sum(a.truncated for a in answers.values())}
        write_atomically(scores_file, json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
        comparison = comparison_table(recipe, {name: folder.path}, split, questions)
        write_tables(comparison, folder.path)
        add_evaluation(checkpoint if checkpoint is not None else recipe.model.path, comparison, recipe, split)
    state.wait_for_everyone()
    return json.loads(scores_file.read_text(encoding="utf-8"))


def split_questions(recipe: Recipe, split: str) -> list[Question]:
    """The split's questions, at most eval.max_questions of them, in the order of the files."""
    return assemble.questions(recipe, split)[: recipe.eval.max_questions]


def batches(questions: Sequence[Question], size: int) -> list[list[Question]]:
    """Questions in batches of `size`: clips of like length together (their prompts need little padding), and the
    questions of one clip (it is decoded once)."""
    order = sorted(questions, key=lambda q: (q.duration_s, q.video, q.id))
    return [order[start : start + size] for start in range(0, len(order), size)]


# ---- answers --------------------------------------------------------------------------------------------------------


def _answer(recipe: Recipe, checkpoint: str | Path | None, todo: Sequence[list[Question]]) -> Iterator[dict[str, Any]]:
    """A row for predictions_<r>.jsonl a question, batch by batch; clips of the next batch are decoded meanwhile."""
    if not todo:
        return
    parts = assemble.policy(recipe, checkpoint)
    model = unwrapped(parts.model)
    model.eval()
    model.requires_grad_(False)  # so towers count as frozen, and a clip's features serve all its questions
    if not getattr(model, "is_quantized", False):  # a quantised model stands on its device already
        model.to(processes().device)
    sampling = Sampling(max_new_tokens=recipe.eval.max_new_tokens, temperature=0)
    end_ids, pad_id = end_tokens(model, parts.prompts.processor.tokenizer)
    for prompts, skipped in _prompts(parts, assemble.source(recipe, parts.family), todo):
        yield from ({"id": one.question_id, "skipped": one.reason} for one in skipped)
        groups = rollout(model, prompts, 1, sampling, end_ids, pad_id) if prompts else []
        yield from (_row(parts, group) for group in groups)


def _prompts(
    parts: assemble.Policy, source: Source, todo: Sequence[list[Question]]
) -> Iterator[tuple[list[Prompt], list[Skipped]]]:
    """The prompts of each batch, and what could not be asked. One thread decodes a batch ahead; prompts are made in
    this one, because a tokenizer may not be used by two threads at once."""

    def clips(batch: list[Question]) -> dict[str, Clip | Skipped]:
        first = {q.video: q for q in reversed(batch)}
        return {video: source.try_clip(question) for video, question in first.items()}

    pool = ThreadPoolExecutor(1, thread_name_prefix="clips")
    try:
        ahead = pool.submit(clips, todo[0])
        for index, batch in enumerate(todo):
            ready = ahead.result()
            if index + 1 < len(todo):
                ahead = pool.submit(clips, todo[index + 1])
            prompts: list[Prompt] = []
            skipped: list[Skipped] = []
            for video in dict.fromkeys(q.video for q in batch):
                clip, asked = ready.pop(video), [q for q in batch if q.video == video]
                if isinstance(clip, Skipped):
                    skipped += [Skipped(q.id, clip.reason) for q in asked]
                    continue
                made = source.attempt(asked[0], partial(parts.prompts.build_all, asked, clip))
                if isinstance(made, Skipped):
                    skipped += [Skipped(q.id, made.reason) for q in asked]
                else:
                    prompts += made
            yield prompts, skipped
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _row(parts: assemble.Policy, group: Group) -> dict[str, Any]:
    prompt, tokens = group.prompt, group.completion_ids[0]
    text = parts.prompts.decode(tokens)
    answer = parts.prompts.read(text, prompt)
    return {
        "id": prompt.question.id,
        "completion": text,
        "answer": render(answer, prompt.question.task),
        "space": {"source": list(prompt.space.source), "model": list(prompt.space.model)},
        "tokens": len(tokens),
        "truncated": group.truncated[0],
    }


# ---- scores and tables ----------------------------------------------------------------------------------------------


def _score(recipe: Recipe, questions: Sequence[Question], answers: Mapping[str, SavedAnswer], scorer: Any) -> Scores:
    completions = {i: a.completion for i, a in answers.items() if a.completion is not None}
    spaces = spaces_of(questions, answers)
    frames, _ = frame_sizes(recipe, questions, spaces)
    return score_completions(questions, completions, scorer, spaces, frames)


def spaces_of(questions: Iterable[Question], answers: Mapping[str, SavedAnswer]) -> dict[str, Space]:
    """video -> the space its answers speak in."""
    found = ((q.video, answers[q.id].space) for q in questions if q.id in answers)
    return {video: space for video, space in found if space is not None}


def frame_sizes(
    recipe: Recipe, questions: Sequence[Question], spaces: Mapping[str, Space]
) -> tuple[dict[str, tuple[float, float]], list[str]]:
    """(video -> (width, height) px, footnotes): what was decoded, else what the file says, else what is annotated."""
    frames = annotated_extent(questions)
    unknown = 0
    for name in dict.fromkeys(q.video for q in questions):
        if name in spaces:
            frames[name] = (float(spaces[name].source[0]), float(spaces[name].source[1]))
            continue
        try:
            info = probe(video_path(Path(recipe.data.videos or "."), name), recipe.media.deadline_s)
            frames[name] = (float(info.width), float(info.height))
        except MediaError:
            unknown += 1
    note = f"whole frame: up to the largest x2 and y2 annotated in {unknown} videos that cannot be read"
    return frames, [note] if unknown else []


def comparison_table(
    recipe: Recipe, folders: Mapping[str, str | Path], split: str = "eval", questions: Sequence[Question] | None = None
) -> tables.Comparison:
    """Several evaluations of one split side by side: row name -> its folder. What is not answered counts 0.

    questions: the split's as they were when they were asked; None: the files are read.
    """
    questions = split_questions(recipe, split) if questions is None else questions
    words = WordVectors.load(recipe.word_vectors.path, recipe.word_vectors.tau, recipe.word_vectors.mapped)
    saved = {name: EvalFolder(folder).read() for name, folder in folders.items()}
    spaces: dict[str, Space] = {}
    for answers in saved.values():
        spaces |= spaces_of(questions, answers)
    frames, notes = frame_sizes(recipe, questions, spaces)
    results = {name: results_of(questions, answers, words) for name, answers in saved.items()}
    for name, answers in saved.items():
        notes += _remarks(name, questions, answers)
    if most_frequent := most_frequent_name(questions):
        notes.append(f"most frequent name: {most_frequent!r}")
    return tables.compare(results, tables.trivial_results(questions, words, frames), notes)


def results_of(
    questions: Sequence[Question], answers: Mapping[str, SavedAnswer], words: WordVectors
) -> list[QuestionResult]:
    """The figures of every question, in their order; what is not answered counts 0."""
    return [measure(q, _read(q, answers.get(q.id)), words) for q in questions]


def _read(question: Question, saved: SavedAnswer | None) -> Answer:
    if saved is None or saved.completion is None or saved.space is None:
        return Answer()
    return parse(saved.completion, question.gold_names, saved.space.to_source)


def _remarks(name: str, questions: Sequence[Question], answers: Mapping[str, SavedAnswer]) -> Iterator[str]:
    mine = [answers.get(q.id) for q in questions]
    for words, number in (
        ("cut off at eval.max_new_tokens", sum(a is not None and a.truncated for a in mine)),
        (
            "skipped because their clip cannot be read (0 in every figure)",
            sum(a is not None and a.skipped is not None for a in mine),
        ),
        ("not answered yet (0 in every figure)", sum(a is None for a in mine)),
    ):
        if number:
            yield f"{name}: {number} of {len(mine)} {'answers' if 'cut' in words else 'questions'} {words}"


def write_tables(comparison: tables.Comparison, folder: str | Path) -> None:
    """folder/table.txt, table.json and table.csv."""
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / "table.txt", tables.as_text(comparison))
        write_atomically(
            folder / "table.json", json.dumps(tables.as_json(comparison), indent=1, ensure_ascii=False) + "\n"
        )
        write_atomically(folder / "table.csv", tables.as_csv(comparison))
    except OSError as error:
        raise AvstError(f"{folder}: the tables cannot be written: {error}") from error
