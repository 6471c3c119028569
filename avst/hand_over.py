"""How a row gets from a data loader's worker to the trainer, exactly as it would be made without workers.

torch's own way has three flaws here. An error raised in a worker arrives as a page of traceback; every tensor keeps a
file descriptor open until it is dropped, the small ones too; and where shared memory is short (containers: 64 MB in
/dev/shm) the row is lost in a background thread and the run waits for ever. So rows travel in a Parcel: errors as
values, small tensors as bytes, and large ones in shared memory only where there is room, else as bytes too.
"""

from __future__ import annotations

import ctypes
import io
import logging
import os
import pickle
import signal
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache
from typing import Any

from torch import Tensor
from torch.utils.data import get_worker_info

from avst.errors import AvstError

logger = logging.getLogger(__name__)

# Below this a tensor is copied sooner than its descriptor is passed.
LARGE_BYTES = 1 << 16
PR_SET_PDEATHSIG = 1  # linux/prctl.h
# Blocks of this size and more go back to the system as soon as they are free (glibc's mallopt).
M_MMAP_THRESHOLD, BACK_TO_THE_SYSTEM_BYTES = -3, 8 << 20
_warned = False


class Parcel:
    """A row on its way. data: its pickle;  large: the tensors that the pickle leaves out, in shared memory."""

    __slots__ = ("data", "large")

    def __init__(self, row: Any) -> None:
        self.large: list[Tensor] = []
        try:
            self.data = _pickled(row, self.large)
        except RuntimeError as error:  # torch has no class of its own for it
            if "shared memory" not in str(error):
                raise
            self.large.clear()
            self.data = _pickled(row, None)
            _warn_once()

    def open(self) -> Any:
        return _Unpickler(io.BytesIO(self.data), self.large).load()


def in_parcel(make: Callable[[], Any]) -> Any:
    """What `make` returns; in a loader's worker in a Parcel, also where it raises an AvstError."""
    if get_worker_info() is None:
        return make()
    _settle_in()
    try:
        return Parcel(make())
    except AvstError as error:
        return Parcel(error)


@cache
def _settle_in() -> None:
    """Once in a worker: what it takes of cores and memory is bounded, for the training's sake."""
    # clips are decoded side by side here: one thread each, or the threads of all would crowd out the training's
    os.environ.setdefault("AVST_DECODER_THREADS", "1")
    if sys.platform == "linux":
        # A worker whose trainer was killed would wait for ever with its pipe full, and with its copies of the sockets
        # between the processes open: the others would never hear that one has gone.
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        # glibc would keep blocks of some MB and find no use for them: after 300 clips a worker was twice its size
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, BACK_TO_THE_SYSTEM_BYTES)


def opened(rows: Iterable[Any]) -> list[Any]:
    """The rows of a batch as they were made; the AvstError that one of them met is raised here."""
    found = [row.open() if isinstance(row, Parcel) else row for row in rows]
    for row in found:
        if isinstance(row, AvstError):
            raise row
    return found


class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO, large: list[Tensor] | None) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self.large = large

    def persistent_id(self, value: Any) -> int | None:
        """The place in `large` that a large tensor takes; None: it is pickled like anything else."""
        if self.large is None or not isinstance(value, Tensor) or value.nbytes < LARGE_BYTES:
            return None
        whole = value.detach()
        if not whole.is_contiguous() or whole.untyped_storage().nbytes() > whole.nbytes:
            whole = whole.clone()  # a view would share all of what it is a view of
        self.large.append(whole.share_memory_())
        return len(self.large) - 1


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, large: list[Tensor]) -> None:
        super().__init__(file)
        self.large = large

    def persistent_load(self, place: int) -> Tensor:
        return self.large[place]


def _pickled(row: Any, large: list[Tensor] | None) -> bytes:
    file = io.BytesIO()
    _Pickler(file, large).dump(row)
    return file.getvalue()


def _warn_once() -> None:
    global _warned
    if not _warned:
        logger.warning(
            "shared memory (/dev/shm) is too small for what the loader's workers hand over; it goes through pipes "
            "instead, which is slower (docker: --shm-size; or dataloader_num_workers: 0)"
        )
    _warned = True
