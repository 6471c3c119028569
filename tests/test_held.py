"""Two runs never write into one folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import avst.held
from avst.errors import AvstError
from avst.held import held

HOLDS = """
import sys, pathlib
from avst.held import held
with held(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_second_is_refused_until_the_first_has_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(avst.held, "PATIENCE", 0.0)
    first = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert first.stdout is not None
    assert first.stdout.readline() == "held\n"
    with pytest.raises(AvstError, match="another run is writing there"), held(tmp_path):
        pass
    first.kill()
    first.wait()
    with held(tmp_path), pytest.raises(AvstError, match="another run is writing there"), held(tmp_path):
        pass
    with held(tmp_path):
        pass
