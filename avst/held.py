"""One run at a time in a folder: two would write the same lines and delete each other's checkpoints."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from avst.errors import AvstError

PATIENCE = 10.0  # seconds: processes of a run that was just killed hold its folder until they have ended too


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep the folder, which must be there, inside the block. AvstError where another run has it. Where the file system
    knows no locks nothing is kept from anybody."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        _lock(descriptor, folder)
        yield
    finally:
        with suppress(OSError):  # said, for the loader's processes have the descriptor too and may live on for a while
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> None:
    until = time.monotonic() + PATIENCE
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                raise AvstError(
                    f"{folder}: another run is writing there: wait for it, or choose another --output-dir"
                ) from None
            time.sleep(0.2)
        except OSError:
            return None
