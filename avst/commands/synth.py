"""avst synth: audio-visual clips with exact questions and answers, or clips for questions that exist already."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from avst.errors import AvstError

SUMMARY = "make audio-visual clips with exact annotations"
_SCENE_FLAGS = (
    *("difficulty", "n", "eval", "duration_s", "resolutions", "events", "sound_s", "n_sounding", "n_silent"),
    *("n_hidden", "max_objects", "size", "speed", "distractors", "names", "tasks", "grid_s", "questions_per_clip"),
    *("wording", "bearings"),
)
_ANNOTATED_FLAGS = ("scale", "max_side")
_NOT_FIELDS = {"difficulty", "n", "eval"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Every option left out keeps the difficulty's value; ranges are written 2 or 2-5."""
    parser.add_argument("out", type=Path, metavar="OUT", help="folder: OUT/videos/*.mp4 and OUT/annotations_*.json")
    parser.add_argument("--seed", type=int, default=0, help="equal seeds and options give equal clips (default 0)")
    parser.add_argument("--workers", type=int, default=1, help="processes; the result is the same with any number")
    parser.add_argument("--overwrite", action="store_true", help="remove the clips that OUT holds of other options")
    parser.add_argument("--noise", type=float, help="of picture and sound, 0 to 1")
    parser.add_argument("--audio-rate", type=int, help="Hz")
    scenes = parser.add_argument_group("scenes")
    scenes.add_argument("--n", type=int, help="clips (default 200)")
    scenes.add_argument(
        "--eval", type=int, help="how many of them go into annotations_eval.json (default a fifth, at least one)"
    )
    scenes.add_argument("--difficulty", choices=("quickstart", "easy", "medium", "hard"), help="default easy")
    scenes.add_argument("--duration", dest="duration_s", type=_range(float), metavar="S[-S]", help="seconds")
    scenes.add_argument("--resolutions", type=_sizes, metavar="WxH,…", help="even sides; one is drawn for each clip")
    scenes.add_argument(
        "--fps", type=_words, metavar="F,…", help="such as 8,25,30000/1001; with annotations one, default 4"
    )
    scenes.add_argument("--events", type=_range(int), metavar="N[-N]", help="a clip")
    scenes.add_argument("--sound", dest="sound_s", type=_range(float), metavar="S[-S]", help="an event's seconds")
    scenes.add_argument("--sounding", dest="n_sounding", type=_range(int), metavar="N[-N]", help="objects an event")
    scenes.add_argument("--silent", dest="n_silent", type=_range(int), metavar="N[-N]", help="seen, never heard")
    scenes.add_argument("--hidden", dest="n_hidden", type=_range(int), metavar="N[-N]", help="heard, never seen")
    scenes.add_argument("--max-objects", type=int, help="of all three kinds an event")
    scenes.add_argument("--object-size", dest="size", type=_range(float), metavar="X[-X]", help="of the shorter side")
    scenes.add_argument("--speed", type=_range(float), metavar="X[-X]", help="shorter sides a second")
    scenes.add_argument("--distractors", type=_range(int), metavar="N[-N]", help="grey shapes a clip")
    scenes.add_argument(
        "--bearings", action="store_true", default=None, help="colours say where and when one is, for tiny models"
    )
    scenes.add_argument("--names", type=_words, metavar="A,B,…", help="objects to choose from")
    scenes.add_argument("--tasks", type=_words, metavar="T,…", help="some of temporal,spatial,st")
    scenes.add_argument("--grid", dest="grid_s", type=float, help="gold times are multiples of it: 1, 0.5 …")
    scenes.add_argument("--questions-per-clip", type=int, help="at most so many (0: all)")
    scenes.add_argument("--wording", choices=("data", "paper"), help="of the authors' files or of their paper")
    given = parser.add_argument_group("clips for annotations that exist")
    given.add_argument(
        "--from-annotations", type=Path, metavar="FILE", help="an R-AVST file; writes OUT/annotations.json"
    )
    given.add_argument("--scale", type=float, help="of the source's size, at most 1; boxes are rewritten to match")
    given.add_argument("--max-side", type=int, metavar="PX", help="shrink frames to this longer side")


def run(args: argparse.Namespace) -> int:
    """Writes the clips. Raises AvstError for options that cannot be used, or used together."""
    other, instead = (_SCENE_FLAGS, "with") if args.from_annotations else (_ANNOTATED_FLAGS, "without")
    for name in other:
        if getattr(args, name) is not None:
            flag = "object-size" if name == "size" else name.removeprefix("n_").removesuffix("_s").replace("_", "-")
            raise AvstError(f"synth: --{flag} has no meaning {instead} --from-annotations")
    if args.workers < 1:
        raise AvstError(f"synth: --workers wants at least 1, not {args.workers}")
    return _run_annotated(args) if args.from_annotations else _run_scenes(args)


def _run_scenes(args: argparse.Namespace) -> int:
    from avst.scenes.settings import make_settings
    from avst.scenes.synthesise import synthesise

    fields = (*(f for f in _SCENE_FLAGS if f not in _NOT_FIELDS), "fps", "noise", "audio_rate")
    changes = {name: getattr(args, name) for name in fields if getattr(args, name) is not None}
    settings = make_settings(args.difficulty or "easy", **changes)
    n = 200 if args.n is None else args.n
    made = synthesise(args.out, n, args.seed, settings, args.eval, args.workers, args.overwrite, _show_progress)
    _report(made)
    return 0


def _run_annotated(args: argparse.Namespace) -> int:
    from avst.scenes.from_annotations import AnnotatedSettings, render_annotations

    changes: dict[str, Any] = {
        name: getattr(args, name)
        for name in ("scale", "max_side", "noise", "audio_rate")
        if getattr(args, name) is not None
    }
    if args.fps is not None:
        if len(args.fps) != 1:
            raise AvstError(f"synth: --fps wants one rate with --from-annotations, not {', '.join(args.fps)}")
        changes["fps"] = args.fps[0]
    settings = AnnotatedSettings(seed=args.seed, **changes)
    made = render_annotations(args.from_annotations, args.out, settings, args.workers, args.overwrite, _show_progress)
    _report(made)
    return 0


def _report(made: Any) -> None:
    splits = [
        f"{made.n_clips[s]} clips with {made.n_questions[s]} questions in {f}" for s, f in made.annotations.items()
    ]
    print(f"{', '.join(splits)}; videos in {made.videos}; {made.seconds:.1f} s")


def _show_progress(done: int, total: int) -> None:
    """A counter that rewrites itself on a terminal; elsewhere a line per tenth."""
    if sys.stderr.isatty():
        print(f"\rclip {done} of {total}", end="\n" if done == total else "", file=sys.stderr, flush=True)
    elif done == total or done % max(1, total // 10) == 0:
        print(f"clip {done} of {total}", file=sys.stderr, flush=True)


def _range(kind: Callable[[str], float]) -> Callable[[str], tuple[float, float]]:
    """Reads "2" as (2, 2) and "2-5" as (2, 5)."""

    def read(text: str) -> tuple[float, float]:
        low, dash, high = text.partition("-")
        try:
            return kind(low), kind(high if dash else low)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"wants a number or a range such as 2-5, not {text!r}") from error

    return read


def _sizes(text: str) -> tuple[tuple[int, int], ...]:
    """Reads "112x112,128x96"."""
    try:
        pairs = [tuple(int(side) for side in part.split("x")) for part in text.split(",")]
        return tuple((width, height) for width, height in pairs)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"wants sizes such as 112x112,128x96, not {text!r}") from error


def _words(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
