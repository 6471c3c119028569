"""Every defect of a data set, by file, question and field, before a run finds them one by one.

An *error* is what a run could not use (avst.tasks.r_avst would refuse it, or the video cannot be opened) or what makes
its result worthless (a video in both splits); a *warning* is what a run survives, but its owner may want to know.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

from avst.errors import AvstError
from avst.media import MediaInfo, probe, video_path
from avst.tasks.r_avst import VideoEntry, read_videos
from avst.types import NOT_VISIBLE, Question

Severity = Literal["error", "warning"]
KINDS: dict[str, tuple[Severity, str]] = {
    "broken_file": ("error", "the file cannot be read at all"),
    "wrong_type": ("error", "a field is missing or of the wrong type"),
    "unknown_field": ("error", "a field that looks like a misspelt task"),
    "unsafe_name": ("error", "a video name that is no plain file name"),
    "duplicate_video": ("error", "a video with two entries, so that question ids are not unique"),
    "no_text": ("error", "a question or an answer without text"),
    "bad_gold": ("error", "a gold answer that cannot be read cleanly"),
    "bad_interval": ("error", "an interval that is not 0 <= start < end"),
    "past_the_end": ("error", "an annotation past the end of the video"),
    "missing_video": ("error", "a video that is not there"),
    "unreadable_video": ("error", "a video that cannot be opened"),
    "one_frame": ("error", "a video of a single frame"),
    "overlap": ("error", "a video that stands in another split too"),
    "no_questions": ("warning", "a file or a video without a question"),
    "repeated_question": ("warning", "the same question twice about one video"),
    "just_past_the_end": ("warning", "an annotation past the end by less than a second"),
    "empty_where": ("warning", "an object with no box entry"),
    "no_visible_box": ("warning", "a question about where with no visible box"),
    "box_outside_frame": ("warning", "a box that reaches out of the frame"),
    "no_audio": ("warning", "a video without an audio track"),
    "duration_differs": ("warning", "a duration more than a second from the video's own"),
}
EDGE_PX = 1.0  # boxes are rounded to whole pixels, and some tools count the last pixel and some the edge behind it
DURATION_SLACK_S = 1.0


@dataclass(frozen=True, slots=True)
class Defect:
    """Example: Defect("train.json", "abc/0/st/0", "A", "empty_where", "\\"dog\\" has no box entry", "warning").

    question: a question's id, or a video's name where the video as such is meant, or `entry 3` where it has no name.
    """

    file: str
    question: str
    field: str
    kind: str
    message: str
    severity: Severity

    def __str__(self) -> str:
        where = [self.file, self.question, f'field "{self.field}"' if self.field else ""]
        return f"{self.severity}: {': '.join(part for part in where if part)}: {self.kind}: {self.message}"


@dataclass(slots=True)
class Findings:
    """What was looked at and what was found. n_probed: videos that were opened."""

    files: list[str]
    n_videos: int = 0
    n_questions: int = 0
    n_probed: int = 0
    defects: list[Defect] = field(default_factory=list)

    def add(self, file: str | Path, question: str, field_name: str, kind: str, message: str) -> None:
        self.defects.append(Defect(str(file), question, field_name, kind, message, KINDS[kind][0]))

    def count(self, severity: Severity) -> int:
        return sum(defect.severity == severity for defect in self.defects)

    @property
    def counts(self) -> dict[str, int]:
        """kind -> number of defects, errors first, in the order of KINDS; kinds without a defect are absent."""
        found = [defect.kind for defect in self.defects]
        order = sorted(KINDS, key=lambda kind: KINDS[kind][0] != "error")
        return {kind: found.count(kind) for kind in order if kind in found}

    def as_json(self) -> dict[str, Any]:
        return {
            "files": self.files,
            "videos": self.n_videos,
            "questions": self.n_questions,
            "videos_opened": self.n_probed,
            "errors": self.count("error"),
            "warnings": self.count("warning"),
            "counts": self.counts,
            "defects": [asdict(defect) for defect in self.defects],
        }


def validate(
    annotations: Sequence[str | Path], videos: str | Path | None = None, against: Sequence[str | Path] = ()
) -> list[Defect]:
    """The defects of these files; see inspect_data."""
    return inspect_data(annotations, videos, against).defects


def inspect_data(
    annotations: Sequence[str | Path], videos: str | Path | None = None, against: Sequence[str | Path] = ()
) -> Findings:
    """Look at annotation files, at their videos where a folder is given, and at overlap among them and with `against`.

    Never raises for what is in the data; AvstError where `videos` is no folder.
    """
    if videos is not None and not Path(videos).is_dir():
        raise AvstError(f"{videos}: is no folder of videos")
    findings = Findings([str(path) for path in annotations])
    entries = {str(path): _read(path, findings) for path in annotations}
    infos = _probe_all(entries, Path(videos), findings) if videos is not None else {}
    for file, file_entries in entries.items():
        for entry in file_entries:
            _check_entry(file, entry, infos.get(entry.name), findings)
    _check_overlap(entries, {str(path): _names_only(path) for path in against}, findings)
    return findings


def _read(path: str | Path, findings: Findings) -> list[VideoEntry]:
    def report(kind: str, where: str, field_name: str, message: str) -> None:
        findings.add(path, where, field_name, kind, message)

    try:
        entries = list(read_videos(path, report))
    except AvstError as error:
        findings.add(path, "", "", "broken_file", str(error).removeprefix(f"{path}: "))
        return []
    if not any(entry.questions for entry in entries):
        findings.add(path, "", "", "no_questions", "the file holds no question that can be used")
    findings.n_videos += len(entries)
    findings.n_questions += sum(len(entry.questions) for entry in entries)
    return entries


def _names_only(path: str | Path) -> set[str]:
    """The videos of the other split; its own defects are not asked for, but a broken file is an AvstError."""
    return {entry.name for entry in read_videos(path, lambda *_: None)}


def _probe_all(entries: Mapping[str, Iterable[VideoEntry]], folder: Path, findings: Findings) -> dict[str, MediaInfo]:
    """video -> what its file says; a video that several files name is opened once and reported under the first."""
    first_file: dict[str, str] = {}
    for file, file_entries in entries.items():
        for entry in file_entries:
            first_file.setdefault(entry.name, file)
    with ThreadPoolExecutor(max_workers=4) as pool:
        outcomes = pool.map(lambda name: _probe(folder, name), first_file)
    infos: dict[str, MediaInfo] = {}
    for (name, file), (kind, outcome) in zip(first_file.items(), outcomes, strict=True):
        if isinstance(outcome, str):
            findings.add(file, name, "video_name", kind, outcome)
            continue
        infos[name] = outcome
        findings.n_probed += 1
        if not outcome.has_audio:
            findings.add(file, name, "video_name", "no_audio", "has no audio track")
        if outcome.n_frames == 1:
            findings.add(file, name, "video_name", "one_frame", "has a single frame")
    return infos


def _probe(folder: Path, name: str) -> tuple[str, MediaInfo | str]:
    try:
        path = video_path(folder, name)
    except AvstError as error:
        return "missing_video", str(error)
    if not path.is_file():
        return "missing_video", f"{path} is not there"
    try:
        return "", probe(path)
    except AvstError as error:
        return "unreadable_video", str(error)


def _check_entry(file: str, entry: VideoEntry, info: MediaInfo | None, findings: Findings) -> None:
    if not entry.questions:
        findings.add(file, entry.name, "annotation", "no_questions", "the video has no question that can be used")
    if info is not None and abs(info.duration_s - entry.duration_s) > DURATION_SLACK_S:
        message = f"says {entry.duration_s:g} s, the video has {info.duration_s:g} s"
        findings.add(file, entry.name, "duration", "duration_differs", message)
    asked: dict[tuple[str, str], str] = {}
    for question in entry.questions:
        earlier = asked.setdefault((question.task, question.text), question.id)
        if earlier != question.id:
            findings.add(file, question.id, "Q", "repeated_question", f"was asked as {earlier} already")
        _check_times(file, question, findings)
        if question.task != "temporal":
            _check_boxes(file, question, (info.width, info.height) if info is not None else None, findings)


def _check_times(file: str, question: Question, findings: Findings) -> None:
    """Annotations a second or more past the end are errors, found when the file was read."""
    for gold in question.gold.objects:
        last = max([i.end for i in gold.intervals] + list(gold.track.times_s), default=0.0)
        if last > question.duration_s + 1e-9:
            message = f'"{gold.name}" is annotated up to {last:g} s, the video ends at {question.duration_s:g} s'
            findings.add(file, question.id, "A", "just_past_the_end", message)


def _check_boxes(file: str, question: Question, frame_px: tuple[int, int] | None, findings: Findings) -> None:
    visible = 0
    width, height = frame_px if frame_px is not None else (float("inf"), float("inf"))
    for gold in question.gold.objects:
        if not gold.track.times_s:
            findings.add(file, question.id, "A", "empty_where", f'"{gold.name}" has no box entry')
        for t, box in zip(gold.track.times_s, gold.track.boxes_px, strict=True):
            visible += box != NOT_VISIBLE
            if min(box[:2]) < 0 or box[2] > width + EDGE_PX or box[3] > height + EDGE_PX:
                frame = f"{width:g}x{height:g}" if frame_px is not None else "which starts at 0, 0"
                shown = ", ".join(f"{value:g}" for value in box)
                message = f'"{gold.name}" at {t:g} s: [{shown}] reaches out of the frame ({frame})'
                findings.add(file, question.id, "A", "box_outside_frame", message)
    if not visible:
        findings.add(file, question.id, "A", "no_visible_box", "no object has a box in which it is visible")


def _check_overlap(
    entries: Mapping[str, Iterable[VideoEntry]], against: Mapping[str, set[str]], findings: Findings
) -> None:
    names = {file: [entry.name for entry in file_entries] for file, file_entries in entries.items()}
    pairs = [(file, other, set(names[other])) for other, file in combinations(names, 2)]
    pairs += [(file, other, other_names) for file in names for other, other_names in against.items()]
    for file, other, other_names in pairs:
        for name in names[file]:
            if name in other_names:
                findings.add(file, name, "video_name", "overlap", f"the video stands in {other} too")
