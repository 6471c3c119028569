"""One thing that was looked at."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

State = Literal["ok", "absent", "warning", "broken"]


@dataclass(frozen=True, slots=True)
class Check:
    """state: "absent" is something optional that is not there, "broken" what a run would fail on;
    mend: a command line or a sentence that mends it, "" where nothing is to be done.

    Example: Check("extras", "decord", "absent", "another video decoder", "pip install -e '.[decoders]'")
    """

    section: str
    name: str
    state: State
    found: str
    mend: str = ""


def as_json(checks: Iterable[Check]) -> dict[str, Any]:
    """{"broken": n, "checks": [{section, name, state, found, mend}]}."""
    rows = [asdict(check) for check in checks]
    return {"broken": sum(row["state"] == "broken" for row in rows), "checks": rows}
