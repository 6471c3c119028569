"""Fixtures shared by all tests. No test needs a network or a GPU."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

ROOT = Path(__file__).resolve().parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real annotations beside the checkout; tests that need it are skipped where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the real annotations (../shared/data) are not on this machine")
    return SHARED_DATA


@pytest.fixture(scope="session")
def tiny_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Kind -> folder of a tiny checkpoint of that family (tests/tiny_world.py), made once for all tests."""
    from avst.models.tiny import make_tiny
    from tests.tiny_world import SMALL

    root = tmp_path_factory.mktemp("tiny_world")
    return {kind: make_tiny(kind, root / kind, **SMALL) for kind in ("qwen2_5_vl", "qwen2_5_omni")}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first: of two processes neither is left alone with one at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
