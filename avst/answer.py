"""The answer grammar: text -> Answer -> text.

    <answer>
    <object>A man</object>
    <when>[3.0, 12.5]</when>
    <where>
    3.0: [10.0, 20.0, 110.0, 220.0]
    </where>
    </answer>

`parse` is linear in the text, reads at most MAX_CHARS of it and never raises: a policy's samples are graded, not
trusted. What cannot be read is dropped in the smallest unit (a line, a tag) and counted under one of PROBLEMS. Every
quantifier below is possessive or bounded, so that no pattern can backtrack. Numbers are returned as written: whether
boxes are in the model's space is the caller's business (`map_boxes`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby, repeat

from avst.types import NOT_VISIBLE, Answer, AnswerObject, Box, Interval, Task, Track

MAX_CHARS = 65_536
PROBLEMS = (
    "no_answer",
    "unclosed_tag",
    "unknown_tag",
    "misplaced_tag",
    "text_outside",
    "bad_interval",
    "bad_box",
    "bad_time",
    "not_finite",
    "too_long",
)
TAGS_OF_TASK: dict[Task, tuple[str, ...]] = {
    "temporal": ("object", "when"),
    "spatial": ("object", "where"),
    "st": ("object", "when", "where"),
}

# A known tag, or anything that looks like one. [^<>] cannot pass the next "<", so all scans together are one pass.
_TAG = re.compile(r"<(/?+)(answer|object|when|where)>|<[A-Za-z/|!?][^<>\n]*+>")
_NUMBER = r"(-?+(?!(?:\.?+[0-9]){13})[0-9]++(?:\.[0-9]++)?+)"  # a plain decimal of at most 12 digits
_S = r"\s*+"
_TIME = re.compile(_NUMBER)
_INTERVAL = re.compile(rf"{_S}\[{_S}{_NUMBER}{_S},{_S}{_NUMBER}{_S}\]{_S}")
_ENTRY = re.compile(rf"{_S}{_NUMBER}{_S}:{_S}\[" + ",".join([rf"{_S}{_NUMBER}{_S}"] * 4) + rf"\]{_S}")
_NOT_FINITE = frozenset({"nan", "inf", "infinity"})
_SEPARATORS = str.maketrans("[],:", "    ")
_NO_TRACK = Track()
_ASCII_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


def parse(text: str, names: Sequence[str] = (), to_source: Callable[[Box], Box] | None = None) -> Answer:
    """Read an answer. Never raises; linear time; boxes and times as written.

    names: the question's gold names, whose own commas do not separate (avst.types.Question.gold_names).
    to_source: what every box goes through, as by `map_boxes`; no second pass over thousands of names.
    Only the first <answer> is read; without one the Answer is empty and `problems` says no_answer.
    """
    reader = _Reader(to_source, tuple(_lower(" ".join(name.split())) for name in names if "," in name))
    if len(text) > MAX_CHARS:
        reader.problems["too_long"] = 1
        text = text[:MAX_CHARS]
    pieces: list[str] = []
    at = 0
    for tag in _TAG.finditer(text):
        pieces.append(text[at : tag.start()])
        at = tag.end()
        if tag[2] is None:
            reader.problems["unknown_tag"] += 1
            continue
        reader.take(tag[2], closing=bool(tag[1]), before="".join(pieces))
        pieces.clear()
    pieces.append(text[at:])
    return reader.finish("".join(pieces))


def parse_gold(text: str) -> Answer:
    """Read an annotation: each <object> holds exactly one name, so none of its commas separates."""
    return parse(text, [piece.split("</object>", 1)[0] for piece in text.split("<object>")[1:]])


@dataclass(slots=True)
class _Entry:
    """One <object> tag: its names share what belongs to it."""

    names: list[str]
    intervals: list[Interval] = field(default_factory=list)
    times_s: list[float] = field(default_factory=list)
    boxes: list[Box] = field(default_factory=list)


class _Reader:
    """The state between two tags. Letters: nothing is read twice, so the whole is linear."""

    def __init__(self, to_source: Callable[[Box], Box] | None, comma_names: tuple[str, ...]) -> None:
        self.to_source = to_source
        self.comma_names = comma_names
        self.problems: Counter[str] = Counter()
        self.tags: set[str] = set()
        self.entries: list[_Entry] = []
        self.started = False  # an <answer> was seen
        self.inside = False  # and is not yet over
        self.open: str | None = None  # object, when or where
        self.when_first: bool | None = None  # decided by the first of <object> and <when>
        self.held: list[Interval] = []  # when-first order: holds for the objects to come
        self.held_used = False

    def take(self, name: str, closing: bool, before: str) -> None:
        """One known tag and the text before it (unknown tags already taken out)."""
        if self._end_of_text(before, closing and name == self.open):
            return
        if name == "answer":
            self._answer_tag(closing)
        elif closing or not self.inside:
            self.problems["misplaced_tag"] += 1
        else:
            self.open = name

    def finish(self, rest: str) -> Answer:
        if not self.started:
            self.problems.pop("text_outside", None)
            self.problems["no_answer"] = 1
        else:
            self._end_of_text(rest, whole=False)
            if self.inside:
                self.problems["unclosed_tag"] += 1
        self._release_held()
        self.problems["misplaced_tag"] += len(self.held)  # intervals with no object anywhere
        objects: list[AnswerObject] = []
        bare: dict[str, AnswerObject] = {}
        for entry in self.entries:
            # Equal objects are one object in memory: 60,000 commas or 8,000 bare <object>s cost little more than one.
            made, track, intervals = bare, _NO_TRACK, tuple(entry.intervals)
            if entry.intervals or entry.boxes:
                made, track = {}, _mapped(Track(tuple(entry.times_s), tuple(entry.boxes)), self.to_source)
            new = [name for name in dict.fromkeys(entry.names) if name not in made]
            made.update(zip(new, map(AnswerObject, new, repeat(intervals), repeat(track)), strict=True))
            objects.extend(map(made.__getitem__, entry.names))
        problems = {reason: self.problems[reason] for reason in PROBLEMS if self.problems[reason]}
        return Answer(tuple(objects), problems, frozenset(self.tags))

    def _answer_tag(self, closing: bool) -> None:
        if closing and self.inside:
            self.inside = False
        elif not closing and not self.started:
            self.started = self.inside = True
        else:
            self.problems["misplaced_tag"] += 1
            if self.inside:  # a second <answer> ends a first that was never closed
                self.problems["unclosed_tag"] += 1
                self.inside = False

    def _end_of_text(self, text: str, whole: bool) -> bool:
        """Give the text to the open element, or count it as outside. True when the tag closed its own element."""
        name, self.open = self.open, None
        if name is None:
            if text and not text.isspace():
                self.problems["text_outside"] += sum(1 for line in text.splitlines() if line.strip())
            return False
        if whole:
            self.tags.add(name)
        else:
            self.problems["unclosed_tag"] += 1
        if name == "object":
            self._object(text)
        elif name == "when":
            self._when(text)
        else:
            self._where(text)
        return whole

    def _object(self, text: str) -> None:
        if self.when_first is None:
            self.when_first = False
        self.entries.append(_Entry(_split_names(text, self.comma_names), list(self.held)))
        self.held_used = True

    def _when(self, text: str) -> None:
        if self.when_first is None:
            self.when_first = True
        interval = self._interval(text)
        if not self.when_first:
            if interval is not None:
                self.entries[-1].intervals.append(interval)
            return
        self._release_held()
        self.held_used = False
        if interval is not None:
            self.held.append(interval)

    def _release_held(self) -> None:
        """When-first: an interval with no object after it goes to the last object; before any object it stays held."""
        if not self.held_used and self.entries:
            self.entries[-1].intervals.extend(self.held)
        if self.entries:
            self.held = []

    def _interval(self, text: str) -> Interval | None:
        found = _INTERVAL.fullmatch(text)
        if found is not None:
            start, end = float(found[1]) + 0.0, float(found[2]) + 0.0  # + 0.0 turns -0.0 into 0.0
            if 0.0 <= start < end:
                return Interval(start, end)
        self.problems["not_finite" if _has_not_finite(text) else "bad_interval"] += 1
        return None

    def _where(self, text: str) -> None:
        if not self.entries:
            self.problems["misplaced_tag"] += 1
            return
        entry, problems = self.entries[-1], self.problems
        for line in text.splitlines():
            found = _ENTRY.fullmatch(line)
            if found is None:
                if line and not line.isspace():
                    problems[_why_not_an_entry(line)] += 1
                continue
            time, x1, y1, x2, y2 = map(float, found.groups())
            if time < 0:
                problems["bad_time"] += 1
            elif (x1 < x2 and y1 < y2) or x1 == y1 == x2 == y2 == 0:
                entry.times_s.append(time + 0.0)
                entry.boxes.append((x1 + 0.0, y1 + 0.0, x2 + 0.0, y2 + 0.0))
            else:
                problems["bad_box"] += 1


def _has_not_finite(text: str) -> bool:
    if "n" not in text and "N" not in text:
        return False
    return any(word.lstrip("+-").lower() in _NOT_FINITE for word in text.translate(_SEPARATORS).split())


def _why_not_an_entry(line: str) -> str:
    head, colon, _ = line.partition(":")
    if not colon:
        return "bad_box"
    if _has_not_finite(line):
        return "not_finite"
    return "bad_box" if _TIME.fullmatch(head.strip()) else "bad_time"


def _split_names(text: str, comma_names: tuple[str, ...]) -> list[str]:
    """The names of one <object>; empty ones are kept. A comma inside an occurrence of a gold name does not separate."""
    text = " ".join(text.split())
    if "," not in text:
        return [text]
    protected: set[int] = set()
    lowered = _lower(text) if comma_names else ""
    for name in comma_names:
        at = lowered.find(name)
        while at >= 0:
            protected.update(at + i for i, letter in enumerate(name) if letter == ",")
            at = lowered.find(name, at + len(name))
    if not protected:
        return [name.strip() for name in text.split(",")]
    cuts = [i for i, letter in enumerate(text) if letter == "," and i not in protected]
    return [text[a + 1 : b].strip() for a, b in zip([-1, *cuts], [*cuts, len(text)], strict=True)]


def _lower(text: str) -> str:
    """Lower case, letter by letter where lower() is ("İ" becomes two), so that positions stay those of `text`."""
    lowered = text.lower()
    return lowered if len(lowered) == len(text) else text.translate(_ASCII_LOWER)


def map_boxes(answer: Answer, fn: Callable[[Box], Box]) -> Answer:
    """The same answer with every box through `fn` (model space <-> source pixels); NOT_VISIBLE stays what it is.

    Names of one <object> tag share one Track; it is mapped once, and still shared afterwards.
    """
    objects: list[AnswerObject] = []
    for _, group in groupby(answer.objects, key=lambda o: id(o.track)):
        same = list(group)
        track = same[0].track
        if track.boxes_px:
            names, intervals = (o.name for o in same), (o.intervals for o in same)
            same = list(map(AnswerObject, names, intervals, repeat(_mapped(track, fn))))
        objects.extend(same)
    return Answer(tuple(objects), answer.problems, answer.tags)


def _mapped(track: Track, fn: Callable[[Box], Box] | None) -> Track:
    if fn is None:
        return track
    return Track(track.times_s, tuple(box if box == NOT_VISIBLE else fn(box) for box in track.boxes_px))


def has_visible_box(answer: Answer) -> bool:
    """Whether any object has a box that is not four zeros. Shared tracks are looked at once."""
    tracks = (next(same).track for _, same in groupby(answer.objects, key=lambda o: id(o.track)))
    return any(box != NOT_VISIBLE for track in tracks for box in track.boxes_px)


def render(answer: Answer, task: Task, *, whole_pixels: bool = False) -> str:
    """Write an answer as the annotations do (object first, one box a line), with the tags of its task.

    whole_pixels: coordinates as integers (what Qwen2.5 was trained to write), each box at least one pixel wide and
    high; otherwise every number as in the annotations ("12.5", "270.0"). `parse` reads all of it back.
    """
    lines = ["<answer>"]
    for item in answer.objects:
        lines.append(f"<object>{item.name}</object>")
        if "when" in TAGS_OF_TASK[task]:
            lines.extend(f"<when>[{_number(i.start)}, {_number(i.end)}]</when>" for i in item.intervals)
        if "where" in TAGS_OF_TASK[task]:
            lines.append("<where>")
            for time, box in zip(item.track.times_s, item.track.boxes_px, strict=True):
                numbers = map(str, _whole(box)) if whole_pixels else map(_number, box)
                lines.append(f"{_number(time)}: [{', '.join(numbers)}]")
            lines.append("</where>")
    return "\n".join([*lines, "</answer>"])


def _number(value: float) -> str:
    """The shortest plain decimal that is `value`, of at most 12 digits: 12.5, 270.0."""
    text = repr(float(value))
    if "e" in text or len(text) > 13:  # too many digits for the grammar: as many decimals as still fit
        whole_digits = len(str(int(abs(value))))
        text = f"{value:.{max(0, 12 - whole_digits)}f}"
        if "." in text:
            text = text.rstrip("0").rstrip(".")
            text = text if "." in text or len(text.lstrip("-")) >= 12 else f"{text}.0"
    return text


def _whole(box: Box) -> tuple[int, int, int, int]:
    if box == NOT_VISIBLE:
        return (0, 0, 0, 0)
    x1, y1, x2, y2 = (round(value) for value in box)
    return (x1, y1, max(x2, x1 + 1), max(y2, y1 + 1))
