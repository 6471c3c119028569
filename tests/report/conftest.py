"""One run, one report of it and one browser for all tests of the page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from avst.report.build import Options, build_report
from avst.scenes.synthesise import Synthesised
from tests.report.browser import Browser, executable, open_browser
from tests.report.report_world import World, make_run, make_scenes


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Synthesised:
    return make_scenes(tmp_path_factory.mktemp("report") / "scenes")


@pytest.fixture(scope="session")
def world(scenes: Synthesised, tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_run(tmp_path_factory.mktemp("runs") / "shaken", scenes)


@pytest.fixture(scope="session")
def other(scenes: Synthesised, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Another run on the same questions, with other answers."""
    return make_run(tmp_path_factory.mktemp("runs") / "other", scenes, seed=7, noise=lambda step: 0.6)


@pytest.fixture(scope="session")
def report(world: World) -> Path:
    return build_report(world.run, world.run / "report", Options(), say=lambda line: None).parent


@pytest.fixture(scope="session")
def compared(world: World, other: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("compared") / "both"
    return build_report(world.run, out, Options(compare=other.run), say=lambda line: None).parent


@pytest.fixture(scope="session")
def session_browser() -> Iterator[Browser]:
    if executable() is None:
        pytest.skip("no Chromium on this machine (make browser installs Debian's; AVST_BROWSER names one)")
    with open_browser() as browser:
        yield browser


@pytest.fixture
def browser(session_browser: Browser) -> Browser:
    """The browser as new: its size, light, and no error so far."""
    session_browser.errors.clear()
    session_browser.resize(1360, 860)
    session_browser.dark(False)
    return session_browser
