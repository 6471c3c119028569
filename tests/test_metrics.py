"""Figures of one question and of many: hand-worked numbers, and a second computation that shares no code with avst."""

from __future__ import annotations

import itertools
import math
import random
from pathlib import Path

import numpy as np
import pytest

from avst.answer import parse
from avst.metrics import FIGURES, QuestionResult, bootstrap_means, figure_values, interval95, measure, summarise
from avst.tasks.r_avst import load_annotations
from avst.types import NOT_VISIBLE, Answer, AnswerObject, Box, Interval, Question, Task, Track
from avst.word_vectors import WordVectors

SMALL = Path(__file__).parent / "golden" / "r_avst_small.json"
WORDS = WordVectors()  # equal names only


def question(question_id: str) -> Question:
    return next(q for q in load_annotations(SMALL) if q.id == question_id)


def measured(question_id: str, inside: str) -> QuestionResult:
    asked = question(question_id)
    return measure(asked, parse(f"<answer>{inside}</answer>", names=asked.gold_names), WORDS)


# ---- one question, by hand ------------------------------------------------------------------------------------------


def test_time_by_hand() -> None:
    """Gold [4, 14]. [9, 19] shares 5 of 15 seconds."""
    result = measured("street/0/temporal/0", "<object>A dog</object><when>[9.0, 19.0]</when>")
    assert result.tiou == pytest.approx(1 / 3)
    assert result.first_tiou == pytest.approx(1 / 3)
    assert (result.viou, result.object_accuracy, result.object_f1) == (None, None, None)


def test_the_first_interval_alone_counts_for_recall() -> None:
    inside = "<object>A dog</object><when>[4.0, 9.0]</when><when>[9.0, 14.0]</when>"
    result = measured("street/0/temporal/0", inside)
    assert (result.tiou, result.first_tiou) == (1.0, 0.5)


def test_a_wrong_name_does_not_void_the_time_of_the_only_object() -> None:
    result = measured("street/0/temporal/0", "<object>rain</object><object>A cat</object><when>[4.0, 14.0]</when>")
    assert (result.tiou, result.first_tiou) == (1.0, 1.0)


def test_the_first_interval_may_belong_to_another_object_than_the_matched_one() -> None:
    """The dog's own interval makes the tIoU; the first one written, 4 to 6 of the cat, makes the recall: 2 of 10 s."""
    inside = "<object>A cat</object><when>[4.0, 6.0]</when><object>A dog</object><when>[4.0, 14.0]</when>"
    result = measured("street/0/temporal/0", inside)
    assert (result.tiou, result.first_tiou) == (1.0, pytest.approx(0.2))


def test_boxes_and_names_by_hand() -> None:
    """The dog is visible at 4 (half of its box found) and 6 (nothing said): 0.25; the pot, not named, 0; mean 0.125."""
    inside = "<object>a dog</object><where>\n4.3: [0, 0, 50, 100]\n</where>"
    result = measured("street/0/spatial/0", inside)
    assert result.viou == pytest.approx(0.125)
    assert result.object_accuracy == 0.5
    assert result.object_f1 == pytest.approx(2 / 3)
    assert (result.tiou, result.first_tiou) == (None, None)


def test_two_men_in_one_second_by_hand() -> None:
    """At 10 s one of two men is boxed: 1/2. At 11 s the man is boxed twice: 1/2. Time [10, 11] of [10, 12]: 1/2."""
    inside = (
        "<object>two men</object><when>[10, 11]</when><where>\n10: [60, 10, 90, 90]\n"
        "11: [10, 10, 50, 90]\n11: [0, 0, 5, 5]\n</where>"
    )
    result = measured("street/1/st/0", inside)
    assert result.viou == pytest.approx(0.5)
    assert result.tiou == pytest.approx(0.5)


def test_where_nothing_is_annotated_the_figure_is_left_out() -> None:
    result = measured("harbour/0/spatial/0", "<object>a ship</object><where>\n0: [0, 0, 9, 9]\n</where>")
    assert result.viou is None
    assert result.object_accuracy == 0.5


def test_a_missing_answer_is_zero_wherever_something_is_annotated() -> None:
    for asked in load_annotations(SMALL):
        empty, gold = measure(asked, Answer(), WORDS), measure(asked, asked.gold, WORDS)
        for name in ("tiou", "first_tiou", "viou", "object_accuracy", "object_f1"):
            ours, best = getattr(empty, name), getattr(gold, name)
            assert (ours, best) in ((None, None), (0.0, 1.0))


# ---- one question, against a slow second computation ----------------------------------------------------------------


def slow_interval_iou(a: list[tuple[int, int]], b: list[tuple[int, int]]) -> float:
    """Seconds as whole ticks, counted one by one."""
    left = {tick for s, e in a for tick in range(s, e)}
    right = {tick for s, e in b for tick in range(s, e)}
    return len(left & right) / len(left | right) if left | right else 0.0


def slow_box_iou(a: Box, b: Box) -> float:
    """Pixels counted one by one."""

    def pixels(box: Box) -> set[tuple[int, int]]:
        x1, y1, x2, y2 = map(int, box)
        return set(itertools.product(range(x1, x2), range(y1, y2)))

    return len(pixels(a) & pixels(b)) / len(pixels(a) | pixels(b))


def slow_track_iou(predicted: Track, gold: Track) -> float | None:
    def visible(track: Track) -> dict[float, list[Box]]:
        pairs = [(t, b) for t, b in zip(track.times_s, track.boxes_px, strict=True) if b != NOT_VISIBLE]
        return {t: [b for other, b in pairs if other == t] for t, _ in pairs}

    wanted, written = visible(gold), visible(predicted)
    if not wanted:
        return None
    left, free, total = set(wanted), set(written), 0.0
    while left and free:
        gap, g, p = min((round(abs(g - p), 9), g, p) for g in left for p in free)
        if gap > 0.5:
            break
        left.discard(g)
        free.discard(p)
        few, many = sorted((wanted[g], written[p]), key=len)
        best = max(
            sum(slow_box_iou(a, b) for a, b in zip(few, order, strict=True))
            for order in itertools.permutations(many, len(few))
        )
        total += best / len(many)
    return total / len(wanted)


def random_box(rng: random.Random) -> Box:
    x, y = rng.randrange(12), rng.randrange(12)
    return (float(x), float(y), float(x + rng.randint(1, 8)), float(y + rng.randint(1, 8)))


def random_object(rng: random.Random, name: str) -> AnswerObject:
    intervals = []
    for _ in range(rng.randrange(3)):
        start = rng.randrange(20)
        intervals.append(Interval(float(start), float(start + rng.randint(1, 10))))
    times = sorted(rng.choice(range(0, 40)) / 4 for _ in range(rng.randrange(6)))
    boxes = tuple(NOT_VISIBLE if rng.random() < 0.2 else random_box(rng) for _ in times)
    return AnswerObject(name, tuple(intervals), Track(tuple(times), boxes))


def slow_figures(asked: Question, answer: Answer) -> dict[str, float | None]:
    """Names are equal or not, and no name is repeated, so the matching is a dictionary."""
    spoken = {o.name: o for o in answer.objects}
    nothing = AnswerObject("")
    gold = asked.gold.objects
    first = next((o for o in answer.objects if o.intervals), None)

    def ticks(o: AnswerObject) -> list[tuple[int, int]]:
        return [(int(i.start), int(i.end)) for i in o.intervals]

    tious, vious, first_tiou = [], [], 0.0
    for wanted in gold:
        own = spoken.get(wanted.name)
        teller = own if own is not None or len(gold) > 1 else first
        if wanted.intervals:
            tious.append(slow_interval_iou(ticks(teller or nothing), ticks(wanted)))
        if first is not None and (len(gold) == 1 or first is own):
            first_tiou = slow_interval_iou(ticks(first)[:1], ticks(wanted))
        vious.append(slow_track_iou((own or nothing).track, wanted.track))
    seen = [v for v in vious if v is not None]
    matched = len({o.name for o in gold} & set(spoken))
    return {
        "tiou": sum(tious) / len(tious) if tious else None,
        "first_tiou": first_tiou if tious else None,
        "viou": sum(seen) / len(seen) if seen else None,
        "object_accuracy": matched / len(gold),
        "object_f1": 2 * matched / (len(gold) + len(spoken)),
    }


@pytest.mark.parametrize("task", ["temporal", "spatial", "st"])
def test_random_answers_against_the_slow_computation(task: Task) -> None:
    applies = {
        "temporal": {"tiou", "first_tiou"},
        "spatial": {"viou", "object_accuracy", "object_f1"},
        "st": {"tiou", "first_tiou", "viou"},
    }[task]
    nonzero = 0
    for seed in range(600):
        rng = random.Random(seed)
        names = ["dog", "cat", "man", "car"]
        gold = Answer(tuple(random_object(rng, n) for n in rng.sample(names, rng.choice([1, 1, 2, 3]))))
        answer = Answer(tuple(random_object(rng, n) for n in rng.sample(names, rng.randrange(4))))
        asked = Question("v/0", task, "?", "v", 30.0, gold, "")
        result, expected = measure(asked, answer, WORDS), slow_figures(asked, answer)
        for name, value in expected.items():
            ours = getattr(result, name)
            if name not in applies:
                assert ours is None
            elif value is None:
                assert ours is None, (seed, name)
            else:
                assert ours == pytest.approx(value, abs=1e-12), (seed, name)
                nonzero += 0 < value < 1
    assert nonzero > 100  # the comparison is about something


# ---- many questions -------------------------------------------------------------------------------------------------


def temporal(video: str, i: int, tiou: float | None, first: float | None = None) -> QuestionResult:
    return QuestionResult(f"{video}/{i}/temporal/0", "temporal", video, tiou, tiou if first is None else first)


def test_summary_by_hand() -> None:
    results = [temporal("a", 0, 0.2), temporal("a", 1, 0.9, 0.4), temporal("b", 0, 0.1 + 0.2), temporal("c", 0, None)]
    spatial = QuestionResult("a/0/spatial/0", "spatial", "a", viou=None, object_accuracy=0.5, object_f1=0.4)
    summary = summarise([*results, spatial])
    times = summary["temporal"]
    assert times["n"] == 4
    assert times["m_tIoU"] == pytest.approx(100 * (0.2 + 0.9 + 0.3) / 3)
    assert times["R1@0.3"] == pytest.approx(200 / 3)  # 0.4 and 0.1 + 0.2, which is 0.30000000000000004
    assert times["R1@0.5"] == times["R1@0.7"] == 0.0
    assert times["n_of"] == dict.fromkeys(FIGURES["temporal"], 3)
    assert times["left_out"] == dict.fromkeys(FIGURES["temporal"], 1)
    assert summary["spatial"]["object_f1"] == pytest.approx(40.0)
    assert summary["spatial"]["m_vIoU"] is None
    assert summary["spatial"]["ci95"]["m_vIoU"] is None
    assert summary["spatial"]["ci95"]["object_accuracy"] is None  # one video says nothing of the spread
    assert summary["st"]["n"] == 0
    assert summary["st"]["m_tIoU"] is None


def test_a_threshold_is_met_in_spite_of_rounding() -> None:
    just_below = math.nextafter(0.7, 0.0)
    assert figure_values([temporal("a", 0, just_below)], "temporal").tolist() == [[100 * just_below, 100, 100, 100]]
    assert figure_values([temporal("a", 0, 0.7 - 1e-6)], "temporal")[0, 3] == 0.0


def random_results(n: int, seed: int) -> list[QuestionResult]:
    rng = random.Random(seed)
    values = [None if rng.random() < 0.15 else rng.random() for _ in range(n)]
    return [temporal(f"video {rng.randrange(n // 2)}", i, value) for i, value in enumerate(values)]


def test_bootstrap_against_a_plain_loop_with_the_same_draws() -> None:
    results = random_results(40, seed=3)
    values = figure_values(results, "temporal")
    ours = bootstrap_means(values, [r.video for r in results], draws=50, seed=7)
    videos = sorted({r.video for r in results})
    draws = np.random.default_rng(7).integers(0, len(videos), size=(50, len(videos)))
    for drawn, means in zip(draws, ours, strict=True):
        members = [i for pick in drawn for i, r in enumerate(results) if r.video == videos[pick]]
        for column in range(values.shape[1]):
            known = [values[i, column] for i in members if not math.isnan(values[i, column])]
            assert means[column] == pytest.approx(sum(known) / len(known))


def test_the_interval_is_that_of_the_sorted_draws() -> None:
    draws = np.array([5.0, np.nan, 1.0, 2.0, 4.0, 3.0])
    assert interval95(draws) == [pytest.approx(1.1), pytest.approx(4.9)]  # 2.5% of the way from 1 to 5, linearly
    assert interval95(np.array([np.nan])) is None


def test_the_interval_covers_as_the_normal_theory_says() -> None:
    """200 videos of one question: the bootstrap of a mean is close to mean ± 1.96 s/sqrt(n)."""
    rng = np.random.default_rng(0)
    tious = rng.uniform(0.2, 0.9, size=200)
    summary = summarise([temporal(f"v{i}", 0, float(t)) for i, t in enumerate(tious)])["temporal"]
    half = 1.96 * 100 * tious.std() / math.sqrt(200)
    low, high = summary["ci95"]["m_tIoU"]
    assert low == pytest.approx(100 * tious.mean() - half, abs=0.15 * half)
    assert high == pytest.approx(100 * tious.mean() + half, abs=0.15 * half)


def test_questions_of_one_video_are_drawn_together() -> None:
    """Ten copies of each question within its video say nothing new, so the interval stays as wide."""
    base = [temporal(f"v{i}", 0, (i * 37 % 100) / 100) for i in range(30)]
    copies = [temporal(r.video, k, r.tiou) for r in base for k in range(10)]
    one, ten = summarise(base)["temporal"]["ci95"]["m_tIoU"], summarise(copies)["temporal"]["ci95"]["m_tIoU"]
    assert ten == pytest.approx(one)
    assert one[1] - one[0] > 10


def test_gold_answers_of_the_real_annotations_have_every_figure_at_100(shared_data: Path) -> None:
    questions = load_annotations(shared_data / "r_avst_dev_QA.json")
    summary = summarise(measure(q, q.gold, WORDS) for q in questions)
    for task, figures in FIGURES.items():
        for figure in figures:
            assert summary[task][figure] == pytest.approx(100.0)
    assert summary["spatial"]["left_out"]["m_vIoU"] == 1  # 8hSEus9jvHc/0/spatial/0 has nothing but zero boxes
    assert summary["spatial"]["left_out"]["object_accuracy"] == 0
