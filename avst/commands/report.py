"""avst report RUN: one folder that opens in a browser from disk: every answer over its video, with its rewards."""

from __future__ import annotations

import argparse
from pathlib import Path

from avst.errors import AvstError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("folder", type=Path, metavar="RUN", help="a run's folder; with --serve also a report's folder, served as it is")
    add("--out", type=Path, metavar="DIR", help="where the report goes (default: RUN/report)")
    add("--compare", type=Path, metavar="OTHER", help="a second run, side by side with the first")
    add("--eval", type=Path, action="append", default=[], metavar="DIR", help="further evaluations of this run")
    add("--videos", type=Path, metavar="DIR", help="the videos, where they are not where the recipe says")
    add("--annotations", type=Path, nargs="+", default=[], metavar="FILE", help="annotations that have moved")
    add(
        "--media",
        choices=("link", "copy", "none"),
        default="link",
        help="videos: link to them where they are (default), copy them into the report, or leave them out",
    )
    add("--max-questions", type=_positive, metavar="N", help="show the first N questions, held-out ones before others")
    add(
        "--max-groups",
        type=_positive,
        default=6,
        metavar="N",
        help="groups of one question, spread from its first to its last step (default %(default)s)",
    )
    add("--no-reasons", action="store_true", help="run no reward function: show what the run has written, no more")
    add("--overwrite", action="store_true", help="replace a report of another run that is there")
    add("--serve", action="store_true", help="then serve it on this machine's loopback, with ranges, until Ctrl-C")
    add("--port", type=_port, default=8710, metavar="P", help="of --serve (default %(default)s; 0 takes a free one)")


def run(args: argparse.Namespace) -> int:
    from avst.report.serve import serve
    from avst.report.write import read_mark

    if read_mark(args.folder) is not None and not (args.folder / "run.json").exists():
        if not args.serve:
            raise AvstError(f"{args.folder}: is a report already; open {args.folder / 'index.html'}, or add --serve")
        serve(args.folder, args.port)
        return 0
    from avst.report.build import Options, build_report

    options = Options(
        compare=args.compare,
        evaluations=tuple(args.eval),
        annotations=tuple(args.annotations),
        videos=args.videos,
        media=args.media,
        most_questions=args.max_questions,
        most_groups=args.max_groups,
        reasons=not args.no_reasons,
        overwrite=args.overwrite,
    )
    out = args.out if args.out is not None else args.folder / "report"
    print(f"report  {build_report(args.folder, out, options)}")
    if args.serve:
        serve(out, args.port)
    return 0


def _port(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = -1
    if not 0 <= value < 1 << 16:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port, from 0 to 65535")
    return value


def _positive(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return value
