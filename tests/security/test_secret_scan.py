"""No credential is in the repository: what looks like one in any file that git tracks. Offline, by the patterns with
which avst keeps them out of what it writes, and those of private keys."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from avst.secrets import SHAPES

ROOT = Path(__file__).resolve().parents[2]
KEY = re.compile("-----BEGIN (?:[A-Z]+ )*PRIVATE " + "KEY")
OURS = ("canary", "verysecret")  # those of the tests say so


def found_in(text: str) -> list[str]:
    shapes = (found[0] for found in SHAPES.finditer(text))
    return [shape for shape in (*shapes, *KEY.findall(text)) if not any(word in shape for word in OURS)]


def test_no_tracked_file_holds_a_credential() -> None:
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("no git repository")
    files = [ROOT / name for name in listed.stdout.split("\0") if name]
    assert len(files) > 100
    found = {}
    for file in files:
        if file.is_file() and (secrets := found_in(file.read_bytes().decode("utf-8", errors="replace"))):
            found[str(file.relative_to(ROOT))] = [secret[:12] for secret in secrets]
    assert found == {}


@pytest.mark.parametrize(
    "parts",
    [
        ("hf", "_", "aB3" * 10),
        ("ghp", "_", "aB3" * 12),
        ("sk", "-", "aB3" * 10),
        ("AKI", "A", "ABCD" * 4),
        ("xoxb", "-", "1234567890-abcdefghij"),
        ("glpat", "-", "aB3" * 7),
        ("-----BEGIN OPENSSH ", "PRIVATE", " KEY-----"),
    ],
)
def test_each_shape_is_found(parts: tuple[str, ...]) -> None:
    assert found_in(f"x = {''.join(parts)}\n")
