"""Fixtures of the media tests: a folder that makes films, and no worker left over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from avst.media import close_workers
from tests.media.make_media import Film, write

MakeFilm = Callable[..., Path]


@pytest.fixture
def film(tmp_path: Path) -> MakeFilm:
    """film("a.mp4", times_s=…, …) -> its path."""

    def make(name: str = "a.mp4", **what: Any) -> Path:
        return write(tmp_path / name, Film(**what))

    return make


@pytest.fixture(autouse=True, scope="module")
def no_worker_left() -> Iterator[None]:
    yield
    close_workers()
