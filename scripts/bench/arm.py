"""An arm in a process of its own, so that its peak memory is its own: python -m scripts.bench.arm MODULE:FUNCTION JSON.

The function is called once with the JSON's entries as keywords and returns what is to be timed: a callable without
arguments, whose result (a mapping, or None) is passed on. It then runs once for every line on stdin.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


class Arm:
    """The parent's end. `threads`: of torch in the child; the figures of one table are all taken with the same."""

    def __init__(self, function: str, threads: int = 1, **arguments: Any) -> None:
        command = [sys.executable, "-m", "scripts.bench.arm", function, json.dumps(arguments)]
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
        self.child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment
        )
        self.seconds: list[float] = []
        self.peak_bytes = 0
        self.last: dict[str, Any] = self._reply()

    def run(self) -> dict[str, Any]:
        """Run once: {"seconds", "peak_bytes", …}; `seconds` and `peak_bytes` of the arm are kept up to date."""
        assert self.child.stdin is not None
        self.child.stdin.write("go\n")
        self.child.stdin.flush()
        self.last = self._reply()
        self.seconds.append(self.last["seconds"])
        return self.last

    def _reply(self) -> dict[str, Any]:
        assert self.child.stdout is not None
        line = self.child.stdout.readline()
        if not line:
            raise RuntimeError(f"the arm {self.child.args} ended with status {self.child.wait()}")
        reply: dict[str, Any] = json.loads(line)
        self.peak_bytes = reply["peak_bytes"]
        return reply

    def close(self) -> None:
        assert self.child.stdin is not None
        self.child.stdin.close()
        self.child.wait()

    def __enter__(self) -> Arm:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def peak_bytes() -> int:
    """The most memory this process ever held (VmHWM)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _main() -> None:
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not reach the replies
    module, _, name = sys.argv[1].partition(":")
    once = getattr(importlib.import_module(module), name)(**json.loads(sys.argv[2]))

    def reply(**found: Any) -> None:
        print(json.dumps({"peak_bytes": peak_bytes(), **found}), file=replies, flush=True)

    reply(seconds=0.0)
    for _ in sys.stdin:
        start = time.perf_counter()
        found = once() or {}
        reply(seconds=time.perf_counter() - start, **found)


if __name__ == "__main__":
    _main()
