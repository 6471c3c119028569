"""Rewards and start-up: a group of long answers, word vectors, `avst --help`, `avst score`.

Measured:
    answers     6 answers to one st question: read (avst.answer.parse) and scored by the four rewards (Scorer.score),
                with word vectors. 40 seconds, 3 objects, a box a second each. All names match, by their vectors, so
                that all boxes are compared; every repeat is another group, with names never compared before. Also with
                times between the seconds, with a deadline, and with two boxes a second.
    vectors     a binary word2vec file of 1,000,000 words x 300, opened and used once: mapped against gensim's reader
                (mapped=False), by turns, each in a new process. The index is made before, once; its seconds are given.
                Memory: what a process holds for itself alone (private pages) after 2,000 words, over what it held
                before the file was opened, while another process has done the same.
    commands    `avst --help`, and `avst score` of 777 gold answers, with that file and without (by the vectors in
                avst). The questions are R-AVST's where ../shared/data is, else those of planned synthetic scenes; the
                figure says which.
Random numbers stand for vectors; their values do not matter to the time. The file is in the page cache in all arms.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from avst.answer import parse, render
from avst.scenes.folder import write_annotations
from avst.scenes.plan import plan_scene
from avst.scenes.questions import annotate
from avst.scenes.settings import PRESETS
from avst.scenes.synthesise import count_questions
from avst.scoring import Scorer, load_specs
from avst.tasks.r_avst import load_annotations
from avst.types import Answer, AnswerObject, Interval, Question, Track
from avst.word_vectors import WordVectors, normalise
from avst.word_vectors.word_index import index_places
from scripts.bench.arm import ROOT, Arm
from scripts.bench.figure import Figure
from scripts.bench.timing import by_turns, medians, ratio

GROUP = "rewards"
REAL = ROOT.parent / "shared" / "data" / "r_avst_dev_QA.json"
G, SECONDS, OBJECTS, QUESTIONS, DIMENSIONS = 6, 40, ("dog", "man", "acoustic guitar"), 777, 300
WAYS: dict[str, dict[str, Any]] = {
    "": {},
    ", times between the seconds": {"shift_s": 0.3},
    ", with a deadline": {"deadline_s": 30.0},
    ", two boxes a second": {"boxes": 2},
}
TAU = 0.6  # "word17 dog" and "dog" are 0.71 alike where vectors are random numbers
SMAPS = Path("/proc/self/smaps_rollup")


def run(quick: bool) -> list[Figure]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        annotations, kind = write_questions(folder, QUESTIONS)
        words = vocabulary(annotations, _affordable(30_000 if quick else 1_000_000, folder))
        vectors = write_vectors(folder / "vectors.bin", words)
        loading = load_figures(vectors, words, repeats=1 if quick else 3)
        answers = answer_figures(WordVectors.load(vectors, TAU), words, repeats=5 if quick else 60)
        return answers + loading + command_figures(folder, annotations, kind, vectors, repeats=1 if quick else 5)


# ---- a group of answers ---------------------------------------------------------------------------------------------


def group(words: list[str], seed: int, shift_s: float = 0.0, boxes: int = 1) -> tuple[Question, list[str]]:
    """A question and G completions that name its objects more closely than the gold answer does, boxes near its own.

    shift_s: of the predicted times;  boxes: an object a second.
    """
    draw = random.Random(seed)

    def thing(name: str, column: int, later_s: float) -> AnswerObject:
        times = tuple(second + later_s for second in range(SECONDS) for _ in range(boxes))
        tracks = [(120.0 * column + draw.randrange(40), 50.0 + draw.randrange(40)) for _ in times]
        track = Track(times, tuple((x, y, x + 150.0, y + 200.0) for x, y in tracks))
        return AnswerObject(name, (Interval(0.0, float(SECONDS)),), track)

    gold = Answer(tuple(thing(name, column, 0.0) for column, name in enumerate(OBJECTS)))
    question = Question(f"q{seed}", "st", "?", "v", float(SECONDS), gold, render(gold, "st"))
    said = [[f"{draw.choice(words)} {name}" for name in OBJECTS] for _ in range(G)]
    answers = [Answer(tuple(thing(name, column, shift_s) for column, name in enumerate(names))) for names in said]
    return question, [render(answer, "st") for answer in answers]


def answer_figures(vectors: WordVectors, words: list[str], repeats: int) -> list[Figure]:
    figures = []
    for title, way in WAYS.items():
        deadline_s = way.get("deadline_s")
        scorer = Scorer(load_specs(), vectors, deadline_s=deadline_s)
        shape = {name: value for name, value in way.items() if name != "deadline_s"}
        seconds = []
        for seed in range(-3, repeats):  # the first three warm up
            question, texts = group(words, seed, **shape)
            start = time.perf_counter()
            answers = [parse(text, question.gold_names) for text in texts]
            scores = scorer.score([question] * G, texts, answers)
            seconds.append(time.perf_counter() - start)
            if min(score.rewards["object"] or 0.0 for score in scores) < 1.0:
                raise RuntimeError("a name was not matched: boxes were left out of the comparison")
        how = {
            "seconds": seconds[3:],
            "answers": G,
            "seconds_of_clip": SECONDS,
            "objects": OBJECTS,
            "characters": len(texts[0]),
            **way,
        }
        name = f"{G} answers of {SECONDS} s and {len(OBJECTS)} objects{title}"
        figures.append(Figure(GROUP, name, 1e3 * median(seconds[3:]), "ms", "" if title else "<= 5", how))
    return figures


# ---- word vectors ---------------------------------------------------------------------------------------------------


def write_vectors(path: Path, words: list[str]) -> Path:
    """A binary word2vec file as word2vec.c writes it: a newline behind each vector."""
    rows = np.random.default_rng(0).standard_normal((1000, DIMENSIONS)).astype("<f4")
    ends = [row.tobytes() + b"\n" for row in rows]
    with path.open("wb") as file:
        file.write(f"{len(words)} {DIMENSIONS}\n".encode())
        file.writelines(word.encode() + b" " + ends[i % len(ends)] for i, word in enumerate(words))
    return path


def vocabulary(annotations: Path, size: int) -> list[str]:
    """The words of all gold names and of OBJECTS, among others, in no order."""
    names = [name for q in load_annotations(annotations) for name in q.gold_names]
    words = dict.fromkeys(word for name in [*OBJECTS, *names] for word in normalise(name).split())
    words |= dict.fromkeys(f"word{i}" for i in range(size - len(words)))
    shuffled = list(words)
    random.Random(0).shuffle(shuffled)
    return shuffled


def _affordable(n_words: int, folder: Path) -> int:
    """Fewer words where the disk is nearly full: the file may take a third of what is free."""
    return min(n_words, shutil.disk_usage(folder).free // 3 // (4 * DIMENSIONS))


def reader(way: str, path: str, lookups: list[str]) -> Callable[[], dict[str, Any]]:
    """An arm: opens the file, then compares one word with all of `lookups`. private_mb: what that added."""
    own_before = private_mb()
    kept = []

    def once() -> dict[str, Any]:
        start = time.perf_counter()
        vectors = WordVectors.load(path, mapped=way == "mapped")
        first = vectors.similarity(lookups[0], lookups[1])
        load_s = time.perf_counter() - start
        table, _ = vectors.similarities(lookups[:1], lookups)
        kept.append(vectors)
        own = private_mb()
        added = None if own is None or own_before is None else own - own_before
        return {"load_s": load_s, "first": first, "sum": float(table.sum()), "private_mb": added}

    return once


def private_mb() -> float | None:
    """What this process alone holds, in MB; None where the system does not say."""
    if not SMAPS.exists():
        return None
    lines = [line.split() for line in SMAPS.read_text().splitlines()]
    return sum(int(line[1]) for line in lines if line[0] in ("Private_Clean:", "Private_Dirty:")) / 1e3


def load_figures(path: Path, words: list[str], repeats: int) -> list[Figure]:
    start = time.perf_counter()
    WordVectors.load(path)
    index_s = time.perf_counter() - start
    lookups = words[:2000]
    replies: dict[str, list[dict[str, Any]]] = {"mapped": [], "gensim": []}
    for _ in range(repeats):
        for way, found in replies.items():
            with Arm("scripts.bench.rewards:reader", way=way, path=str(path), lookups=lookups) as one:
                found.append(one.run())
    with (
        Arm("scripts.bench.rewards:reader", way="mapped", path=str(path), lookups=lookups) as one,
        Arm("scripts.bench.rewards:reader", way="mapped", path=str(path), lookups=lookups) as two,
    ):
        one.run()
        second = two.run()
    every = [*replies["mapped"], *replies["gensim"], second]
    if len({(reply["first"], reply["sum"]) for reply in every}) > 1:
        raise RuntimeError("the two readers give other similarities")
    seconds = {way: [reply["load_s"] for reply in found] for way, found in replies.items()}
    title = f"{len(words):,} words x {DIMENSIONS}"
    how = {
        "seconds": seconds,
        "replies": replies,
        "second_process": second,
        "file_mb": path.stat().st_size / 1e6,
        "index_mb": index_places(path)[0].stat().st_size / 1e6,
        "index_made_s": index_s,
    }
    figures = [
        Figure(GROUP, f"word vectors opened, {title}", median(seconds["mapped"]), "s", "<= 0.5", how),
        Figure(GROUP, "their index, made once", index_s, "s", "", how),
        Figure(GROUP, "gensim's reader", median(seconds["gensim"]), "s", "", how),
        Figure(GROUP, "gensim / mapped", ratio(seconds, "gensim", "mapped"), "x", "", how),
    ]
    if second["private_mb"] is not None:
        alone = median(reply["private_mb"] for reply in replies["gensim"])
        figures += [
            Figure(GROUP, "memory a second process adds", second["private_mb"], "MB", "<= 10", how),
            Figure(GROUP, "memory a process adds, gensim's reader", alone, "MB", "", how),
        ]
    return figures


# ---- commands -------------------------------------------------------------------------------------------------------


def write_questions(folder: Path, n: int) -> tuple[Path, str]:
    """An annotation file of at least n questions, and what it is: the real one where it is there."""
    if REAL.is_file():
        return REAL, "R-AVST"
    entries: list[dict[str, Any]] = []
    n_questions = 0
    while n_questions < n:
        entries.append(annotate(plan_scene(PRESETS["hard"], 0, len(entries))))
        n_questions += count_questions(entries[-1])
    write_annotations(folder / "questions.json", entries)
    return folder / "questions.json", "synthetic"


def command_figures(folder: Path, annotations: Path, kind: str, vectors: Path, repeats: int) -> list[Figure]:
    questions = list(islice(load_annotations(annotations), QUESTIONS))
    lines = [json.dumps({"id": q.id, "completion": q.gold_text}) for q in questions]
    predictions = folder / "gold.jsonl"
    predictions.write_text("\n".join(lines) + "\n", encoding="utf-8")
    score = ["score", "--annotations", str(annotations), "--predictions", str(predictions)]
    score += ["--out", str(folder / "scores.json")]
    arms = {
        "help": lambda: _avst("--help"),
        "score": lambda: _avst(*score),
        "score with vectors": lambda: _avst(*score, "--word-vectors", str(vectors)),
    }
    seconds = by_turns(arms, repeats)
    middle = medians(seconds)
    how = {"seconds": seconds, "questions": kind, "n_questions": len(questions), "vectors": vectors.stat().st_size}
    title = f"avst score, {len(questions)} gold answers ({kind})"
    return [
        Figure(GROUP, "avst --help", middle["help"], "s", "<= 0.5", how),
        Figure(GROUP, f"{title}, with vectors", middle["score with vectors"], "s", "<= 5", how),
        Figure(GROUP, f"{title}, without", middle["score"], "s", "<= 5", how),
    ]


def _avst(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "avst", *arguments], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
