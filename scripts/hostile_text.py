"""How long the worst answers take: one megabyte of each hostile shape, parsed and scored by all rewards, in
milliseconds.

    python scripts/hostile_text.py [--word-vectors F] [--repeats 5] [--limit-ms 50]

A policy under training writes such texts by accident (endless repeats), and one slow sample holds up all ranks. The
gold answer is a hard one: eight objects (the most in R-AVST), three of one name, 64 annotated seconds each, two boxes
a second. Times are of this process's processor, the best of `repeats`; exit status 1 if any is over the limit.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator

from avst.answer import parse, render
from avst.plugins import RewardSpec, load_reward, load_specs
from avst.scoring import Scorer
from avst.types import Answer, AnswerObject, Interval, Question, Space, Task, Track
from avst.word_vectors import WordVectors

SIZE = 1_000_000
WORDS = ("man", "woman", "dog", "person", "guitar", "car", "people", "trumpet", "girl", "drum")


def gold_question(task: Task) -> Question:
    times = tuple(float(t) for t in range(64) for _ in range(2))
    names = ("A man", "A man", "man", "A woman", "dog", "Two young boys", "a large, round pot", "car")
    objects = tuple(
        AnswerObject(
            name,
            (Interval(float(i), 30.0 + i),),
            Track(times, tuple((10.0 + i, 20.0, 110.0 + k % 2 * 50, 220.0) for k in range(128))),
        )
        for i, name in enumerate(names)
    )
    gold = Answer(objects, {}, frozenset({"object", "when", "where"}))
    return Question(f"hostile/0/{task}/0", task, "?", "hostile", 64.0, gold, render(gold, task))


def fill(piece: str, size: int = SIZE) -> str:
    return piece * (size // len(piece) + 1)


def letters() -> Iterator[str]:
    """Distinct one-letter names of all alphabets."""
    return (chr(c) for c in range(0x100, 0x9FFF) if chr(c).isalpha())


def shapes() -> dict[str, str]:
    """name -> text of at least a megabyte (only the first 65,536 characters are read, so each shape starts at once)."""
    names = ",".join(f"{a} {b} {i}" for i, (a, b) in enumerate((a, b) for _ in range(60) for a in WORDS for b in WORDS))
    boxes = "".join(f"{i % 64}.{i % 10}:[{i % 97},2,{i % 97 + 9},9]\n" for i in range(6000))
    exact = "".join(f"{i * 0.01:.2f}:[1,2,3,{4 + i}]\n" for i in range(6000))
    near = "man," * 4000
    half = 32_000
    texts = {
        "a million <": "<" * SIZE,
        "a million <answer>": fill("<answer>"),
        "a million >": "<answer>" + ">" * SIZE,
        "unclosed objects": "<answer>" + fill("<object>"),
        "unclosed wheres": "<answer><object>man</object>" + fill("<where>"),
        "unclosed, nested": "<answer>" + fill("<object><when><where>"),
        "closing tags": "<answer>" + fill("</object></when></where>"),
        "unknown tags": "<answer>" + fill("<a>"),
        "unknown tags in a name": "<answer><object>" + fill("x<a>"),
        "half-open tags": "<answer>" + fill("<a"),
        "digits": "<answer><object>man</object><when>[" + "1" * SIZE,
        "digit rows": "<answer><object>man</object><where>" + fill("1234567890123456: [1, 2, 3, 4]\n"),
        "one long entry": "<answer><object>man</object><where>1: [" + fill("1, "),
        "brackets": "<answer><object>man</object><where>" + fill("["),
        "colon rows": "<answer><object>man</object><where>" + fill(":\n"),
        "junk rows": "<answer><object>man</object><where>" + fill("x\n"),
        "blank rows": "<answer><object>man</object><where>" + fill("\n"),
        "nan rows": "<answer><object>man</object><where>" + fill("1: [nan, 1, 2, 3]\n"),
        "spaces": "<answer><object>man</object><where>" + fill(" "),
        "rows outside": "<answer>" + fill("a\n"),
        "commas": "<answer><object>" + fill(","),
        "gold name repeated": "<answer><object>" + fill("a large, round pot,"),
        "one name repeated": "<answer><object>" + fill("man,"),
        "distinct letters": "<answer><object>" + fill(",".join(letters())),
        "distinct phrases": "<answer><object>" + fill(names),
        "objects": "<answer>" + fill("<object>man</object>"),
        "whens": "<answer><object>man</object>" + fill("<when>[0,1]</when>"),
        "whens first": "<answer>" + fill("<when>[0,1]</when><object>man</object>"),
        "held whens": "<answer>" + fill("<when>[0,1]</when>") + "<object>man</object>",
        "boxes of all seconds": "<answer><object>man</object><where>" + fill(boxes),
        "boxes, distinct times": "<answer><object>man</object><where>" + fill(exact),
        "boxes of one second": "<answer><object>man</object><where>" + fill("1:[1,2,3,4]\n"),
        "zero boxes": "<answer><object>man</object><where>" + fill("1:[0,0,0,0]\n"),
        "one box an object": "<answer>" + fill("<object>man</object><where>1:[1,2,3,4]</where>"),
        "4000 names x 4000 boxes": f"<answer><object>{near}</object><where>" + fill(boxes),
        "names x zero boxes": f"<answer><object>{names[:half]}</object><where>" + fill("1:[0,0,0,0]\n"),
        "phrases x distinct times": f"<answer><object>{names[:half]}</object><where>" + fill(exact),
        "names x one second": f"<answer><object>{near},dog,woman,car</object><where>" + fill("1:[1,2,3,4]\n"),
        "letters, one box": f"<answer><object>{','.join(letters())[:65_400]}</object><where>" + fill("1:[1,2,3,4]\n"),
        "letters x boxes": "<answer><object>" + ",".join(letters())[:half] + "</object><where>" + fill(boxes),
        "emoji": "<answer><object>" + fill("😀,"),
        "control characters": "<answer>" + fill("\x00\u2028\ud800\x1c"),
    }
    return {name: (text * (SIZE // len(text) + 1) if len(text) < SIZE else text) for name, text in texts.items()}


def measured_ms(question: Question, text: str, scorer: Scorer, repeats: int) -> tuple[float, float]:
    """Best processor time of parsing (with turning boxes into source pixels) and of scoring, nothing remembered."""
    space = Space(source=(1280, 720), model=(644, 364))
    best_parse = best_score = float("inf")
    for round_ in range(repeats):
        varied = text.replace("<object>", f"<object>{round_},", 1)  # new names, so that no remembered match helps
        start = time.process_time()
        answer = parse(varied, question.gold_names, space.to_source)
        middle = time.process_time()
        scorer.score([question], [varied], [answer])
        end = time.process_time()
        best_parse, best_score = min(best_parse, middle - start), min(best_score, end - middle)
    return best_parse * 1000, best_score * 1000


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--word-vectors")
    arguments.add_argument("--repeats", type=int, default=5)
    arguments.add_argument("--limit-ms", type=float, default=50.0)
    options = arguments.parse_args()
    skills = [RewardSpec(name, load_reward(f"rewards.skill:{name}")) for name in ("temporal_skill", "spatial_skill")]
    vectors = WordVectors.load(options.word_vectors)
    plain, skilled = Scorer(load_specs(), vectors), Scorer([*load_specs(), *skills], vectors)
    question = gold_question("st")
    worst = 0.0
    print(f"{'shape':28} {'parse':>8} {'score':>8} {'total':>8}   +skill plug-ins   (ms)")
    for name, text in shapes().items():
        parse_ms, score_ms = measured_ms(question, text, plain, options.repeats)
        _, skill_ms = measured_ms(question, text, skilled, options.repeats)
        worst = max(worst, parse_ms + score_ms)
        print(f"{name:28} {parse_ms:8.1f} {score_ms:8.1f} {parse_ms + score_ms:8.1f}   {parse_ms + skill_ms:8.1f}")
    print(f"worst: {worst:.1f} ms, limit {options.limit_ms:g} ms")
    return 0 if worst <= options.limit_ms else 1


if __name__ == "__main__":
    sys.exit(main())
