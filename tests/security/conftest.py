from __future__ import annotations

from pathlib import Path

import pytest

from tests.security.canary import Canary


@pytest.fixture
def canary(tmp_path: Path) -> Canary:
    """Alive at the end of every test that takes it is the test's own word."""
    return Canary(tmp_path)
