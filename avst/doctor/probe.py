"""Questions answered by a child process, a JSON object a line, so that nothing a library does can end this one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

IMPORT_S = 180.0  # a first import of torch from a slow disk takes a minute


def ask(module: str, arguments: Sequence[str] = (), timeout_s: float = IMPORT_S) -> tuple[list[dict[str, Any]], str]:
    """(the objects that `python -m module` printed, how it ended early or "")."""
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(part for part in (root, os.environ.get("PYTHONPATH")) if part)
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", module, *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
            env=os.environ | {"PYTHONPATH": path, "TRANSFORMERS_VERBOSITY": "error"},
        )
        out, ended = done.stdout, _how_it_ended(done.returncode, done.stderr)
    except subprocess.TimeoutExpired as error:
        out = error.stdout.decode(errors="replace") if isinstance(error.stdout, bytes) else error.stdout or ""
        ended = f"no answer in {timeout_s:g} s"
    except OSError as error:
        out, ended = "", f"no process can be started: {error}"
    return _objects(out), ended


def _how_it_ended(status: int, said: str) -> str:
    if status == 0:
        return ""
    if status < 0:
        return f"crashed ({signal.Signals(-status).name})"
    last = said.strip().splitlines()[-1:] or ["no message"]
    return f"ended with status {status}: {last[0][:200]}"


def _objects(out: str) -> list[dict[str, Any]]:
    """Libraries print to standard output too while they are imported: what is no object is passed over."""
    found = []
    for line in out.splitlines():
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            found.append(value)
    return found
