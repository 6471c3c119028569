"""When one process of a run fails, all of them say why.

The process that fails first leaves its line in the store that the processes met by, and ends. The others, wherever they
are waiting for it, find their connections closed, or are told to end by the launcher; they look into the store and
end with the same line in place of a page about sockets. Nothing is exchanged while all goes well.

A process that is killed leaves no line: the others say that one has gone. One that hangs is noticed after
`ddp_timeout` seconds (`grpo.ddp_timeout`, `sft.ddp_timeout`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch.distributed as dist
from torch.distributed.elastic.multiprocessing.errors import get_error_handler

from avst.errors import AvstError, Interrupted
from avst.failures import out_of_memory

KEY = "avst/first failure"
GONE = "another process of this run has gone without a word (killed, or the machine ran out of memory)"
# how gloo, NCCL and the store say that another process is gone or late; all else that they say is a fault of this one
_GONE = (
    "Connection closed by peer",
    "Connection reset by peer",
    "recvValue",
    "sendBytes",
    "pair closure",
    "remote process exited",
    "communicator was aborted",
)
_LATE = ("imed out", "timeout", "Connection refused", "Broken pipe")  # what other programs say too


@contextmanager
def failing_together() -> Iterator[None]:
    """Around a whole run, on every process: what fails on one ends all with the same line."""
    try:
        yield
    except Interrupted:
        raise
    except Exception as error:
        rank = dist.get_rank() if _several() else 0
        first, line = leave(rank, _in_a_line(error))
        if first != rank:
            raise AvstError(line) from error
        if "TORCHELASTIC_ERROR_FILE" in os.environ:  # torchrun shows it as the root cause
            get_error_handler().record_exception(error)
        if _several() and (isinstance(error, AvstError) or another_is_gone(error)):
            raise AvstError(line) from error
        raise


def leave(rank: int, line: str) -> tuple[int, str]:
    """Say why this process fails; (which one failed first, why)."""
    if not _several():
        return rank, line
    said = json.dumps([rank, f"{line} (process {rank} of {dist.get_world_size()})"])
    try:
        found = json.loads(_store().compare_set(KEY, "", said))
    except (RuntimeError, ValueError):  # the process that kept the store has gone
        found = json.loads(said)
    return int(found[0]), str(found[1])


def first_failure() -> str | None:
    """Why another process has failed; None where none has said so. Does not wait."""
    if not _several():
        return None
    try:
        store = _store()
        return str(json.loads(store.get(KEY))[1]) if store.check([KEY]) else None
    except (RuntimeError, ValueError):  # the store went with the process that kept it
        return GONE


def bound_waiting(seconds: float) -> None:
    """How long a process waits for the others before it takes them for lost. The Trainer sets it for GPUs alone."""
    if _several():
        # newer versions of torch have a public name for it
        set_timeout: Any = getattr(dist, "set_timeout", None) or dist.distributed_c10d._set_pg_timeout
        set_timeout(timedelta(seconds=seconds), dist.group.WORLD)


def another_is_gone(error: BaseException) -> bool:
    """Whether this is how a collective fails when a process of it has gone, or does not answer."""
    if not isinstance(error, RuntimeError) or out_of_memory(error):
        return False
    said = str(error)
    if any(words in said for words in _GONE):
        return True
    of_processes = isinstance(error, dist.DistError) or any(word in said for word in ("gloo", "NCCL", "Store"))
    return of_processes and any(words in said for words in _LATE)


def _in_a_line(error: Exception) -> str:
    words = " ".join(str(error).split())
    if isinstance(error, AvstError):
        return words
    if _several() and another_is_gone(error):
        late = "imed out" in words or "timeout" in words
        what = "another process did not answer in time (ddp_timeout): it hangs, or works for longer than that"
        what = what if late else GONE
        how = "the launcher's lines say how it ended, and `avst resume` goes on from the last checkpoint"
        return f"{what}; {how} ({words[:200]})"
    return f"{type(error).__name__}: {words}"[:500]


def _several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _store() -> Any:
    return dist.distributed_c10d._get_default_store()
