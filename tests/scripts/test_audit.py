"""An audit that looked nothing up is no clean bill."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

spec = importlib.util.spec_from_file_location("audit", Path(__file__).resolve().parents[2] / "scripts" / "audit.py")
assert spec is not None
assert spec.loader is not None
audit = importlib.util.module_from_spec(spec)
spec.loader.exec_module(audit)

GOOD = {"name": "a", "version": "1", "vulns": []}
BAD = {"name": "b", "version": "2", "vulns": [{"id": "CVE-1", "fix_versions": ["3"]}]}
MISSED = {"name": "c", "skip_reason": "Dependency not found on PyPI"}


@pytest.mark.parametrize(
    ("packages", "status", "words"),
    [
        ([GOOD], 0, "1 packages looked up, 0 vulnerable"),
        ([GOOD, BAD], 1, "b 2: CVE-1, mended in 3"),
        ([GOOD, MISSED], 2, "1 of 2 packages were NOT looked up"),
        ([BAD, MISSED], 1, "1 of 2 packages were NOT looked up"),
        ([MISSED, MISSED], 2, "NOTHING WAS AUDITED"),
        ([], 2, "NOTHING WAS AUDITED"),
    ],
)
def test_what_was_not_looked_up_is_said(packages: list[Any], status: int, words: str) -> None:
    lines, found = audit.verdict({"dependencies": packages})
    assert found == status
    assert words in "\n".join(lines)


def test_no_pip_audit_is_no_clean_bill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    assert audit.main() == 2
    assert "NOTHING WAS AUDITED" in capsys.readouterr().out
