"""Models that come with avst, under names that look like the Hub's: `model.path: avst/tiny-omni`."""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).parent
PACKAGED = {"avst/tiny-omni": _HERE / "tiny_omni"}


def packaged(path: str | Path) -> str | Path:
    """The folder of a model that comes with avst; any other path or name as it is."""
    return PACKAGED.get(str(path), path)
