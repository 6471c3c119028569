"""A function in a child process of its own, which can be ended when it hangs: whatever it does, the caller goes on.

Forked, so that the function may be anything, and its child sees what this process had when it was first called.
Arguments and values are pickled. A child that was ended, or has ended itself, is replaced at the next call.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

PR_SET_PDEATHSIG = 1  # linux/prctl.h


class ChildLost(Exception):
    """The child ended in the middle of a call; the text says how."""


class Apart:
    """Example: Apart(len)([1, 2], deadline_s=5.0) == 2."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function = function
        self.child: Any = None
        self.owner = 0
        self.pipe: Connection

    def __call__(self, argument: Any, deadline_s: float | None) -> Any:
        """The function's value. Raises TimeoutError past the deadline, ChildLost, and what cannot be pickled raises."""
        if self.child is None or self.owner != os.getpid():  # a fork of this process must not share its child
            self._start()
        try:
            self.pipe.send(argument)
            if not self.pipe.poll(deadline_s):
                raise TimeoutError
            return self.pipe.recv()
        except (EOFError, ConnectionError) as error:
            self.child.join(2.0)
            how = _how(self.child.exitcode)
            self._end()
            raise ChildLost(how) from error
        except BaseException:
            self._end()
            raise

    def _start(self) -> None:
        fork = multiprocessing.get_context("fork")
        self.pipe, theirs = fork.Pipe()
        self.child = fork.Process(target=_serve, args=(theirs, self.pipe, self.function), daemon=True)
        self.child.start()
        self.owner = os.getpid()
        theirs.close()

    def _end(self) -> None:
        self.child.kill()
        self.child.join()
        self.pipe.close()
        self.child = None


def _serve(pipe: Connection, parents: Connection, function: Callable[[Any], Any]) -> None:
    """Answer until the parent is gone."""
    parents.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C and SIGTERM are the parent's to act on
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with suppress(OSError, AttributeError):  # Linux: end with the parent, however it ends
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.dup2(2, 1)  # what it prints is for people
    while True:
        try:
            argument = pipe.recv()
        except EOFError:
            return
        pipe.send(function(argument))


def _how(status: int | None) -> str:
    if status is None:
        return "it closed its pipe"
    return f"it was ended by {signal.Signals(-status).name}" if status < 0 else f"it exited with status {status}"
