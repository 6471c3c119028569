"""What the user probably meant by a name that is not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean "x"?`, or, where nothing is near and they are few, the known names.

    Example: did_you_mean("sed", ["seed", "name"]) == '; did you mean "seed"?'
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if near:
        return f'; did you mean "{near[0]}"?'
    return f" (known: {', '.join(names)})" if 0 < len(names) <= 20 else ""
