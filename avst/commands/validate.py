"""`avst validate DATA…`: every defect of a data set, with counts; exit status 1 where a run could not use it."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from avst.errors import AvstError
from avst.validate import KINDS, Findings, inspect_data
from avst.watch.safe_text import safe_lines


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "data", nargs="+", type=Path, help="annotation files, or a folder with annotations*.json and videos/"
    )
    parser.add_argument("--videos", type=Path, help="the folder of the videos (default: videos/ of a DATA folder)")
    parser.add_argument(
        "--against", nargs="+", type=Path, default=[], metavar="OTHER", help="files that no video may be in too"
    )
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def run(args: argparse.Namespace) -> int:
    """0: usable (warnings may have been printed); 1: a run could not use it."""
    files, videos = locate(args.data, args.videos)
    findings = inspect_data(files, videos, args.against)
    print(json.dumps(findings.as_json(), indent=1, ensure_ascii=False) if args.json else safe_lines(as_text(findings)))
    return 1 if findings.count("error") else 0


def locate(data: Sequence[Path], videos: Path | None) -> tuple[list[Path], Path | None]:
    """The annotation files meant by DATA, and the folder of their videos (None: the videos are not looked at)."""
    files: list[Path] = []
    folders: list[Path] = []
    for path in data:
        if not path.is_dir():
            files.append(path)
            continue
        inside = sorted(path.glob("annotations*.json"))
        if not inside:
            raise AvstError(f"{path}: the folder holds no annotations*.json")
        files += inside
        folders.append(path / "videos")
    if videos is None and folders:
        if len(folders) > 1:
            raise AvstError("several DATA folders have a videos/ each: validate them one by one, or give --videos")
        videos = folders[0]
    return files, videos


def as_text(findings: Findings) -> str:
    """Every defect on a line, then the counts."""
    lines = [str(defect) for defect in findings.defects]
    if lines:
        lines.append("")
    for kind, count in findings.counts.items():
        severity, meaning = KINDS[kind]
        lines.append(f"{count:>7}  {severity:<7}  {kind:<18} {meaning}")
    opened = f"{findings.n_probed} videos opened" if findings.n_probed else "videos not opened"
    files = f"{len(findings.files)} file{'s' if len(findings.files) > 1 else ''}"
    lines.append(
        f"{files}, {findings.n_videos} videos, {findings.n_questions} usable questions, {opened}: "
        f"{findings.count('error')} errors, {findings.count('warning')} warnings"
    )
    return "\n".join(lines)
