"""A decoding process with faults: python faulty_decoder.py '{"clip": "fault", …}' PARENT_PID.

What avst.media.worker does, except for clips whose file is named like one in the table: there it hangs, crashes, is
ended, eats memory or takes its parent (a loader's worker) with it.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from avst.media import worker

FAULTS = json.loads(sys.argv[1])
serve = worker._serve


def misbehave(request: dict[str, Any], replies: Any, limit_gb: float) -> None:
    fault = FAULTS.get(Path(request["path"]).stem)
    if fault is None or request["op"] == "probe":
        return serve(request, replies, limit_gb)
    if fault == "memory":
        worker._decode, decode = eat, worker._decode
        try:
            return serve(request, replies, limit_gb)
        finally:
            worker._decode = decode
    worker._send(replies, {"kind": "begun"})
    if fault == "hang":
        ctypes.PyDLL(None).pause()  # for ever, and it holds the interpreter's lock: no thread of this process can help
    elif fault != "loader killed":
        os.kill(os.getpid(), signal.Signals[fault])
    elif str(os.getppid()) != os.environ["AVST_TEST_SPARE"]:
        os.kill(os.getppid(), signal.SIGKILL)
    return None


def eat(*_: Any) -> None:
    held = []
    while True:
        held.append(bytearray(1 << 26))


worker._serve = misbehave
sys.argv = [sys.argv[0], sys.argv[2]]
worker.main()
