"""Things that leave a file behind if anything runs them: "dead" says whether one did."""

from __future__ import annotations

from pathlib import Path
from typing import Any


class Canary:
    """trace: the file that only running it makes.

    Example: torch.save({"x": canary.pickled()}, file); load(file); assert not canary.dead.
    """

    def __init__(self, folder: Path) -> None:
        self.trace = folder / "the canary is dead"

    @property
    def dead(self) -> bool:
        return self.trace.exists()

    def pickled(self) -> Any:
        """An object whose pickle makes the trace when it is opened."""
        return _Pickled(self.trace)

    def code(self, names: str = "") -> str:
        """A Python module that makes the trace when it is imported; `names` become empty classes."""
        classes = "".join(f"class {name}: ...\n" for name in names.split())
        return f"open({str(self.trace)!r}, 'w').close()\n{classes}"

    def shell(self) -> str:
        return f"touch '{self.trace}'"


class _Pickled:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.trace), "w")
