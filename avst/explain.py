"""What a reward says about itself (--explain): matches and intervals in words, short whatever the answer is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from avst.match import NameMatch, speakers_in_time
from avst.types import Answer, Interval

Reasons: TypeAlias = Callable[[int, str], None]
_SHOWN = 6
_LONGEST_NAME = 40


def say_nothing(i: int, text: str) -> None:
    """The `reasons` of a reward that is called by hand or by another trainer."""


def explain_matches(predicted: Answer, gold: Answer, matches: Sequence[NameMatch], tau: float) -> str:
    """Example: predicted 'cat' ~ gold 'kitten' 0.81 >= 0.75, gold 'dog' unmatched"""
    said = [
        f"predicted {_short(predicted.objects[m.predicted].name)} ~ gold {_short(gold.objects[m.gold].name)} "
        f"{m.similarity:.2f} >= {tau:g}"
        for m in matches[:_SHOWN]
    ]
    missed = set(range(len(gold.objects))) - {m.gold for m in matches}
    said += [f"gold {_short(gold.objects[j].name)} unmatched" for j in sorted(missed)[:_SHOWN]]
    surplus = len(predicted.objects) - len(matches)
    if surplus:
        matched = {m.predicted for m in matches}
        first = next(i for i in range(len(predicted.objects)) if i not in matched)
        said.append(f"{surplus} predicted unmatched (first: {_short(predicted.objects[first].name)})")
    return ", ".join(said)


def explain_intervals(predicted: Answer, gold: Answer, matches: Sequence[NameMatch]) -> str:
    """Example: 'dog' [0, 5] against gold 'puppy' [2.5, 5]; nothing against gold 'man' [1, 2]"""
    speakers, matched = speakers_in_time(predicted, gold, matches), {m.gold for m in matches}
    said = []
    for j, wanted in list(enumerate(gold.objects))[:_SHOWN]:
        ours = f"{_short(speakers[j].name)} {_spans(speakers[j].intervals)}" if j in speakers else "nothing"
        note = " (name unmatched, the only object asked for)" if j in speakers and j not in matched else ""
        said.append(f"{ours}{note} against gold {_short(wanted.name)} {_spans(wanted.intervals)}")
    return "; ".join(said)


def _spans(intervals: Sequence[Interval]) -> str:
    shown = " ".join(f"[{i.start:g}, {i.end:g}]" for i in intervals[:_SHOWN])
    return (shown + (" …" if len(intervals) > _SHOWN else "")) or "with no interval"


def _short(name: str) -> str:
    return repr(name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…")
