"""A report from beginning to end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from avst.media import MediaError, video_path
from avst.progress import track
from avst.report import figures
from avst.report.before_after import tables
from avst.report.collect import Entry, Group, Material, collect, in_order, space_of
from avst.report.judging import show_gold
from avst.report.run import Run, open_run
from avst.report.video import Media, Video, prepare
from avst.report.write import copy_static, mark, put, replacing_report
from avst.types import Space

SEARCHED = 2000  # characters of an answer that the page's search looks through
THREADS = 2


@dataclass(frozen=True)
class Options:
    """What `avst report` was asked for; see its --help."""

    compare: Path | None = None
    evaluations: tuple[Path, ...] = ()
    annotations: tuple[Path, ...] = ()
    videos: Path | None = None
    media: Media = "link"
    most_questions: int | None = None
    most_groups: int = 6
    reasons: bool = True
    overwrite: bool = False


@dataclass
class _Report:
    """The report while it is written."""

    folder: Path
    final: Path
    material: Material
    options: Options
    say: Callable[[str], None]
    video_number: dict[tuple[str, str], int] = field(default_factory=dict)
    videos: list[Video] = field(default_factory=list)
    linked: dict[str, str] = field(default_factory=dict)


def build_report(run: str | Path, out: str | Path, options: Options, say: Callable[[str], None] = print) -> Path:
    """Write the report of `run` to the folder `out`; returns its index.html. Raises AvstError."""
    out = Path(out)
    runs = [open_run(run, options.evaluations)]
    if options.compare is not None:
        runs.append(open_run(options.compare))
        _name_apart(runs)
    paths = [str(r.path.resolve()) for r in runs]
    material = collect(runs, options.reasons, options.most_groups, options.videos, options.annotations)
    with replacing_report(out, paths, options.overwrite) as folder:
        report = _Report(folder, out, material, options, say)
        copy_static(folder)
        entries = in_order(material.entries.values(), options.most_questions)
        _write_videos(report, entries)
        _write_questions(report, entries)
        put(folder, "curves", [figures.curves(r.folder.metrics()) for r in runs])
        put(folder, "tables", list(tables(material)))
        mark(folder, paths, report.linked)
    return out / "index.html"


def _name_apart(runs: Sequence[Run]) -> None:
    """Two runs called `grpo` are told apart by as much of their paths as it takes."""
    a, b = runs[0].path.resolve().parts, runs[1].path.resolve().parts
    depth = next((n for n in range(1, max(len(a), len(b)) + 1) if a[-n:] != b[-n:]), None)
    for run, parts in zip(runs, (a, b), strict=True):
        run.name = "/".join(parts[-depth:]) if depth is not None else run.name


# ---- videos ---------------------------------------------------------------------------------------------------------


def _video_key(entry: Entry) -> tuple[str, str]:
    return str(entry.videos_dir), entry.question.video


def _write_videos(report: _Report, entries: Sequence[Entry]) -> None:
    """data/v/<n>.js of every video that a question asks about."""
    first = {_video_key(entry): entry for entry in reversed(entries)}
    report.video_number = {key: n for n, key in enumerate(dict.fromkeys(map(_video_key, entries)))}

    def one(key: tuple[str, str]) -> tuple[Video, Path | None]:
        entry, number = first[key], report.video_number[key]
        args = (entry.videos_dir, entry.question.video, number, report.folder, report.final)
        return prepare(*args, report.options.media, report.say)

    missing = 0
    with ThreadPoolExecutor(THREADS, thread_name_prefix="videos") as pool:
        done = pool.map(one, report.video_number)
        for number, (video, linked) in enumerate(track(done, "videos", total=len(report.video_number))):
            report.videos.append(video)
            missing += video.link is None and report.options.media != "none"
            if linked is not None and video.served is not None:
                report.linked[video.served] = str(linked)
            put(report.folder, f"v/{number}", video.as_json())
    if missing:
        why = next(v.error for v in report.videos if v.error)
        report.say(f"{missing} of {len(report.videos)} videos cannot be shown, such as: {why}")


# ---- questions ------------------------------------------------------------------------------------------------------


def _write_questions(report: _Report, entries: Sequence[Entry]) -> None:
    """data/q/<n>.js of every question, data/index.js with a row a question, data/search.js with the answers' text."""
    rows, texts = [], []
    spaces = _spaces_of_videos(report)
    for number, entry in enumerate(track(entries, "questions")):
        groups = [_judged(report, entry, group, spaces) for group in entry.groups]
        question = entry.question
        video = report.video_number[_video_key(entry)]
        record = {
            "id": question.id,
            "task": question.task,
            "text": question.text,
            "duration": question.duration_s,
            "video": video,
            "gold": show_gold(question),
            "gold_text": question.gold_text,
            "groups": groups,
        }
        put(report.folder, f"q/{number}", record)
        rows.append([question.id, question.task, question.text, list(question.gold_names), _summaries(groups)])
        said = (c["text"][:SEARCHED] for group in groups for c in group["completions"])
        texts.append("\n".join(dict.fromkeys(said)).lower())
    put(report.folder, "search", texts)
    put(report.folder, "index", _index(report, rows))


def _spaces_of_videos(report: _Report) -> Callable[[Entry, int], Space | None]:
    """The space in which a run's answers to a question speak, worked out from the video as training did."""

    @cache
    def of_video(folder: Path, name: str, run: int) -> Space | None:
        from avst.prompt import space_for_video  # imports torch, and newer completions say their space themselves

        try:
            return space_for_video(video_path(folder, name), report.material.runs[run].recipe.media)
        except MediaError:
            return None

    def find(entry: Entry, run: int) -> Space | None:
        if entry.videos_dir is None or entry.question.task == "temporal":
            return None
        return of_video(entry.videos_dir, entry.question.video, run)

    return find


def _judged(
    report: _Report, entry: Entry, group: Group, spaces: Callable[[Entry, int], Space | None]
) -> dict[str, Any]:
    run = report.material.sets[group.set]["run"]
    known = [space_of(row) for row in group.rows]
    if any(space is None for space in known):
        known = [spaces(entry, run)] * len(group.rows)
    completions = report.material.judges[run].group(entry.question, group.rows, known)
    return {"set": group.set, "step": group.step, "completions": completions, "skipped": group.skipped}


def _summaries(groups: Sequence[dict[str, Any]]) -> list[list[Any]]:
    """[[set, step, answers, lowest, mean, highest total]] of a question, as the list shows and sorts them."""
    rows = []
    for group in groups:
        totals = [c["total"] for c in group["completions"] if c["total"] is not None]
        low, mean, high = (min(totals), sum(totals) / len(totals), max(totals)) if totals else (None, None, None)
        numbers = [None if v is None else round(v, 4) for v in (low, mean, high)]
        rows.append([group["set"], group["step"], len(group["completions"]), *numbers])
    return rows


def _index(report: _Report, rows: list[list[Any]]) -> dict[str, Any]:
    material = report.material
    runs = []
    for run, judge, known in zip(material.runs, material.judges, material.known, strict=True):
        notes = [*run.notes, *known.notes, *judge.notes]
        if judge.different:
            notes.append(
                f"{judge.different} completions are worth something else by today's rewards, words or videos than when "
                "they were sampled; where they differ, both are shown."
            )
        runs.append(
            {
                "name": run.name,
                "path": str(run.path),
                "recipe": run.recipe.name,
                "model": run.recipe.model.path,
                "rewards": judge.weights,
                "notes": notes,
            }
        )
        for note in notes:
            report.say(f"{run.name}: {note}")
    notes = []
    if len(rows) < len(material.entries):
        notes.append(f"{len(rows)} of {len(material.entries)} questions (--max-questions).")
    if material.left_out:
        notes.append(
            f"{material.left_out} groups are left out: a question shows its first, its last and "
            f"{max(report.options.most_groups - 2, 0)} groups between (--max-groups)."
        )
    return {"runs": runs, "sets": material.sets, "questions": rows, "notes": notes, "media": report.options.media}
