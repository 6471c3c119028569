"""This process's decoding workers: started when first needed, killed at a deadline, never shared across a fork.

Plain subprocesses over pipes, because torch's loader workers are daemonic and may not start multiprocessing
children. One worker serves one request at a time; threads that ask at the same time get one each.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from avst.media import protocol
from avst.media.settings import MediaError

# -P: a file av.py in the folder one happens to stand in must not be imported.
COMMAND = (sys.executable, "-P", "-m", "avst.media.worker")
PIPE_BYTES = 1 << 20
# Decoders leak (decord most of all): a fresh worker costs a fraction of a second.
RETIRE_AFTER = 1000


class WorkerLost(Exception):
    """The worker ended, or spoke nonsense, in the middle of a request; the text says how."""


class Worker:
    """One child process and the pipes to it. Any exception out of a request leaves it unusable: kill it."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self.served = 0
        self.log = tempfile.TemporaryFile()  # noqa: SIM115  (lives as long as the child; closed with it)
        self.child = subprocess.Popen(
            [*COMMAND, str(self.owner)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            env=_environment(),
            bufsize=0,
        )
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        self.stdin, self.stdout = self.child.stdin, self.child.stdout
        _enlarge(self.stdout.fileno())

    def send(self, request: dict[str, Any]) -> None:
        """Write a request: far below a pipe's capacity, so it cannot block on a worker that is idle."""
        try:
            self.stdin.write(protocol.pack(request))
        except OSError as error:
            raise WorkerLost(self.how_it_ended()) from error

    def receive(self, until: float) -> dict[str, Any]:
        """The next header. `until`: time.monotonic() of the deadline; TimeoutError past it."""
        prefix = self._exactly(protocol.LENGTH.size, until)
        try:
            header = json.loads(self._exactly(protocol.header_length(prefix), until))
        except ValueError as error:
            raise WorkerLost("it sent no message") from error
        if not isinstance(header, dict):
            raise WorkerLost("it sent no message")
        return header

    def receive_into(self, target: memoryview, until: float) -> None:
        """Fill `target` (bytes) with the payload that follows a header."""
        fd, poll = self.stdout.fileno(), select.poll()
        poll.register(fd, select.POLLIN)
        while target:
            left = until - time.monotonic()
            if left <= 0 or not poll.poll(left * 1000):
                raise TimeoutError
            n = os.readv(fd, [target])
            if n == 0:
                raise WorkerLost(self.how_it_ended())
            target = target[n:]

    def _exactly(self, n: int, until: float) -> bytes:
        data = bytearray(n)
        self.receive_into(memoryview(data), until)
        return bytes(data)

    def how_it_ended(self) -> str:
        """In words: the signal or exit status of a child that has ended or is about to."""
        try:
            status = self.child.wait(2.0)
        except subprocess.TimeoutExpired:
            return "it closed its pipe"
        if status < 0:
            return f"it was ended by {signal.Signals(-status).name}"
        self.log.seek(0)
        said = self.log.read().decode(errors="replace").strip().splitlines()
        return f"it exited with status {status}" + (f": {said[-1][:300]}" if said else "")

    def kill(self) -> None:
        """End the child at once and let go of everything."""
        self.child.kill()
        self.child.wait()
        self.let_go()

    def let_go(self) -> None:
        """Close this process's ends of the pipes: an idle child ends by itself."""
        self.stdin.close()
        self.stdout.close()
        self.log.close()


_idle: list[Worker] = []
_lock = threading.Lock()


@contextmanager
def worker_for(path: str | Path, request: dict[str, Any]) -> Iterator[Worker]:
    """A worker that has been sent `request`; afterwards it is kept for the next one.

    Whatever goes wrong inside the block kills the worker; a missed deadline and a lost worker become MediaErrors
    that name `path`. An "error" reply, raised by `expect` inside the block, becomes a MediaError and harms no worker.
    """
    worker = _take()
    try:
        worker = _send_or_replace(worker, request)
        yield worker
    except TimeoutError as error:
        worker.kill()
        raise MediaError(
            f"{path}: decoding took longer than {request['deadline_s']:g} s and was stopped (deadline_s in the recipe)"
        ) from error
    except WorkerLost as error:
        worker.kill()
        raise MediaError(f"{path}: the decoder crashed on this file ({error})") from error
    except _Refused as refusal:
        _give_back(worker)
        raise MediaError(str(refusal)) from None
    except BaseException:
        worker.kill()
        raise
    _give_back(worker)


class _Refused(Exception):
    """The worker answered with an error and is ready for the next request."""


def expect(header: dict[str, Any], *kinds: str) -> dict[str, Any]:
    """The header itself if it is of one of these kinds. An "error" message becomes the MediaError it carries."""
    if header.get("kind") == "error":
        raise _Refused(header["message"])
    if header.get("kind") not in kinds:
        raise WorkerLost(f"it sent {header.get('kind')!r} where {' or '.join(kinds)} was due")
    return header


def _take() -> Worker:
    with _lock:
        while _idle:
            worker = _idle.pop()
            if worker.owner == os.getpid() and worker.child.poll() is None:
                return worker
            worker.let_go()
    return Worker()


def _send_or_replace(worker: Worker, request: dict[str, Any]) -> Worker:
    """Wait for the worker's word that it has begun: one that died while idle says nothing about this file."""
    was_idle = worker.served > 0
    until = time.monotonic() + float(request["deadline_s"])
    try:
        worker.send(request)
        expect(worker.receive(until), "begun")
    except WorkerLost:
        if not was_idle:
            raise
        worker.kill()
        return _send_or_replace(Worker(), request)
    return worker


def _give_back(worker: Worker) -> None:
    worker.served += 1
    if worker.served >= RETIRE_AFTER:
        worker.kill()
        return
    with _lock:
        _idle.append(worker)


def _environment() -> dict[str, str]:
    """Ours, with this avst to be found even where it is not installed, and no thread pools that decoding has no use
    for.
    """
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    root = Path(__file__).resolve().parents[2]
    if root.name not in ("site-packages", "dist-packages"):
        environment["PYTHONPATH"] = os.pathsep.join(p for p in (environment.get("PYTHONPATH"), str(root)) if p)
    return environment


def _enlarge(fd: int) -> None:
    """A roomier pipe where the system has that: fewer switches between the two processes."""
    try:
        import fcntl

        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    except (ImportError, AttributeError, OSError):
        return


def _forget_after_fork() -> None:
    """In a forked child: its parent's workers are none of its own; the lock may be held by a thread that is not
    here.
    """
    global _lock
    _lock = threading.Lock()
    for worker in _idle:
        worker.child.returncode = 0  # not ours to wait for, or to warn about
        worker.let_go()
    _idle.clear()


def close_workers() -> None:
    """Let all idle workers of this process end."""
    with _lock:
        while _idle:
            worker = _idle.pop()
            if worker.owner == os.getpid():
                worker.kill()


os.register_at_fork(after_in_child=_forget_after_fork)
atexit.register(close_workers)
