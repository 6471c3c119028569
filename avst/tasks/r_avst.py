"""R-AVST annotations -> Question, and the paper's prompt.

The file is the authors' own: a list of {video_name, duration, annotation: [{event_num,
"AV Temporal Reasoning"?: [{Q, A}], "AV Spatial Reasoning"?: …, "AV ST Reasoning"?: …}]}. `event_num` repeats within a
video, so a question's id is `video_name/position in annotation/temporal|spatial|st/position in list`, from 0.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from avst.answer import TAGS_OF_TASK, parse_gold
from avst.errors import AvstError
from avst.types import Answer, Question, Task

PAST_END_SLACK_S = 1.0  # annotations are made once a second and durations are rounded: less than this is no mistake

TASK_KEYS: dict[str, Task] = {
    "AV Temporal Reasoning": "temporal",
    "AV Spatial Reasoning": "spatial",
    "AV ST Reasoning": "st",
}

# Box 2 of the paper, word for word. Its text elsewhere says <what> where Box 2, and the annotations, say <object>.
SYSTEM_PROMPT = """\
You are an expert in audio-visual video grounding. For each question, output within <answer></answer>:
- <object>: grounded object(s), e.g. ‘man’, ‘dog’, separated by commas
- <when>: [start, end] in seconds, 1 decimal
- <where> for each object by each second within the object appearing duration: timestamp: [x1, y1, x2, y2]
Only include tags <object>, <when> and <where>. No extra text. Example:
<answer>
<when>[10.0,20.5]</when>
<object>dog </object>
<where>
10.0: [100,200,300,400]
11.0: [109,280,320,432]
12.0: [100,200,300,400]
</where>
<object>cat </object>
<where>
12.5: [50,60,150,160]
13.5: [55,62,140,150]
</where>
</answer>"""


def prompt_text(question: Question) -> str:
    """The user's turn: the question alone, for Box 2 (SYSTEM_PROMPT) says all about the form of the answer."""
    return question.text


Kind = Literal[
    "broken_file",
    "wrong_type",
    "unknown_field",
    "unsafe_name",
    "duplicate_video",
    "no_text",
    "bad_gold",
    "bad_interval",
    "past_the_end",
]
Report = Callable[[Kind, str, str, str], None]
"""report(kind, where, field, message): where is a question's id, a video's name or `entry 3`; field may be empty."""


@dataclass(frozen=True, slots=True)
class VideoEntry:
    """One entry of the file that could be read. Example: VideoEntry(0, "abc", 40.2, (Question(...), ...))."""

    position: int
    name: str
    duration_s: float
    questions: tuple[Question, ...]


def load_annotations(path: str | Path, report: Report | None = None) -> list[Question]:
    """All questions of a file in its order. Raises AvstError at the first defect, naming file, question and field.

    report: called for each defect instead, and what the defect spoils is left out (see read_videos).
    """

    def refuse(kind: Kind, where: str, field: str, message: str) -> None:
        parts = [str(path), where, f'field "{field}"' if field else "", message]
        raise AvstError(": ".join(part for part in parts if part))

    questions = [question for entry in read_videos(path, report or refuse) for question in entry.questions]
    if not questions:
        raise AvstError(f"{path}: the file holds no questions")
    return questions


def read_videos(path: str | Path, report: Report) -> Iterator[VideoEntry]:
    """Yield what can be read of a file, and report every defect; the smallest unit that a defect spoils is left out.

    Raises AvstError only where nothing at all can be read (no such file, broken JSON, no list).
    """
    first_seen: dict[str, int] = {}
    for position, raw in enumerate(_read_list(Path(path))):
        where = f"entry {position}"
        if not isinstance(raw, dict):
            report("wrong_type", where, "", f"must be an object with video_name, duration and annotation, {_is(raw)}")
            continue
        name = _video_name(raw, where, report)
        if name is None:
            continue
        if name in first_seen:
            # The ids of the two entries' questions would be the same.
            report("duplicate_video", name, "video_name", f"stands in entry {first_seen[name]} and in entry {position}")
            continue
        first_seen[name] = position
        duration_s = _duration(raw, name, report)
        if duration_s is not None:
            yield VideoEntry(position, name, duration_s, tuple(_questions(raw, name, duration_s, report)))


def _read_list(path: Path) -> list[Any]:
    try:
        raw = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise AvstError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise AvstError(f"{path}: is not UTF-8 text (byte {error.start})") from error
    try:
        data = json.loads(raw)
    except json.JSONDecodeError as error:
        raise AvstError(f"{path}: broken JSON in line {error.lineno}, column {error.colno}: {error.msg}") from error
    except (RecursionError, ValueError) as error:  # nested too deep; an integer of thousands of digits
        raise AvstError(f"{path}: JSON that cannot be read: {error}") from error
    if not isinstance(data, list):
        raise AvstError(f"{path}: must hold a list of videos, {_is(data)}")
    return data


def _video_name(raw: dict[str, Any], where: str, report: Report) -> str | None:
    name = raw.get("video_name")
    if "video_name" not in raw or not isinstance(name, str) or not name.strip():
        report("wrong_type", where, "video_name", _wanted(raw, "video_name", "a name that is not empty"))
        return None
    if _has_surrogates(name):
        report("wrong_type", where, "video_name", "holds half a surrogate pair, which is no text")
        return None
    if name in (".", "..") or any(c in "/\\" or ord(c) < 32 for c in name):
        report("unsafe_name", where, "video_name", f"{name!r} is not the plain name of a file in the videos' folder")
        return None
    return name


def _duration(raw: dict[str, Any], name: str, report: Report) -> float | None:
    value = raw.get("duration")
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e9 or not math.isfinite(value):
        report("wrong_type", name, "duration", _wanted(raw, "duration", "a number of seconds above 0"))
        return None
    return float(value)


def _questions(raw: dict[str, Any], name: str, duration_s: float, report: Report) -> Iterator[Question]:
    events = raw.get("annotation")
    if not isinstance(events, list):
        report("wrong_type", name, "annotation", _wanted(raw, "annotation", "a list of events"))
        return
    for event_position, event in enumerate(events):
        where = f"{name}/{event_position}"
        if not isinstance(event, dict):
            report("wrong_type", where, "annotation", f"must be an object, {_is(event)}")
            continue
        for key, items in event.items():
            task = TASK_KEYS.get(key)
            if task is None:
                if items is None or isinstance(items, list | dict):
                    _check_unknown_key(key, items, where, report)
            elif not isinstance(items, list):
                report("wrong_type", where, key, f"must be a list of questions, {_is(items)}")
            else:
                for position, item in enumerate(items):
                    question = _question(item, f"{where}/{task}/{position}", task, name, duration_s, report)
                    if question is not None:
                        yield question


def _check_unknown_key(key: str, items: Any, where: str, report: Report) -> None:
    """Further keys are the user's own, but what is nearly called a task, has a word of a task's name in its own, or
    holds questions, would lose them in silence, or lose them once there are any."""
    meant = _task_key_meant(key)
    holds_questions = isinstance(items, list) and any(
        isinstance(item, dict) and {"Q", "A"} & set(item) for item in items
    )
    if meant is not None:
        report("unknown_field", where, key, f'is not a known task: did you mean "{meant}"?')
    elif holds_questions:
        report("unknown_field", where, key, f"holds questions, but is not a known task: {', '.join(TASK_KEYS)}")


def _task_key_meant(key: str) -> str | None:
    """The task that a key probably names. Example: _task_key_meant("temporal") == "AV Temporal Reasoning"."""
    words = set(re.findall(r"[a-z]+", key.lower()))
    if words & {"spatio", "spatiotemporal"} or {"temporal", "spatial"} <= words:
        return "AV ST Reasoning"
    for known, task in TASK_KEYS.items():
        if task in words:
            return known
    near = difflib.get_close_matches(key.lower(), [known.lower() for known in TASK_KEYS], n=1, cutoff=0.6)
    return next((known for known in TASK_KEYS if near and known.lower() == near[0]), None)


def _question(
    item: object, question_id: str, task: Task, video: str, duration_s: float, report: Report
) -> Question | None:
    if not isinstance(item, dict):
        report("wrong_type", question_id, "", f"must be an object with Q and A, {_is(item)}")
        return None
    for field in ("Q", "A"):
        value = item.get(field)
        if not isinstance(value, str) or not value.strip():
            kind: Kind = "no_text" if value is None or isinstance(value, str) else "wrong_type"
            report(kind, question_id, field, _wanted(item, field, "text that is not empty"))
            return None
        if _has_surrogates(value):
            report("wrong_type", question_id, field, "holds half a surrogate pair, which is no text")
            return None
    gold = _gold(item["A"], question_id, task, duration_s, report)
    return None if gold is None else Question(question_id, task, item["Q"], video, duration_s, gold, item["A"])


def _gold(text: str, question_id: str, task: Task, duration_s: float, report: Report) -> Answer | None:
    gold = parse_gold(text)
    missing = [tag for tag in TAGS_OF_TASK[task] if tag not in gold.tags]
    if gold.problems or missing:
        faults = [f"{reason} x{count}" for reason, count in gold.problems.items()]
        faults += [f"no <{tag}>…</{tag}>" for tag in missing]
        kind: Kind = "bad_interval" if "bad_interval" in gold.problems else "bad_gold"
        report(kind, question_id, "A", f"the gold answer cannot be read cleanly: {', '.join(faults)}")
        return None
    for gold_object in gold.objects:
        last = max([i.end for i in gold_object.intervals] + list(gold_object.track.times_s), default=0.0)
        if last > duration_s + PAST_END_SLACK_S:
            message = f'"{gold_object.name}" is annotated at {last:g} s, past the end of the video ({duration_s:g} s)'
            report("past_the_end", question_id, "A", message)
            return None
    return gold


def _has_surrogates(text: str) -> bool:
    """JSON may spell half a surrogate pair, which neither a file name nor a tokenizer can take."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False


def _wanted(raw: dict[str, Any], field: str, wanted: str) -> str:
    return f"must be {wanted}, {_is(raw[field])}" if field in raw else f"is missing (must be {wanted})"


def _is(value: object) -> str:
    """'but is …', short enough for one line whatever the value is."""
    if isinstance(value, dict | list):
        return f"but is {'an object' if isinstance(value, dict) else 'a list'}"
    shown = json.dumps(value, ensure_ascii=False)
    return f"but is {shown if len(shown) <= 40 else shown[:37] + '…'}"
