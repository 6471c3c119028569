"""The page in narrow windows, by keyboard, in the dark, without its videos, and served."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import pytest

from avst.report.build import Options, build_report
from avst.report.serve import make_server
from tests.report.browser import Browser
from tests.report.page_reading import BOXES, held, last_group, look, number_of, ready_video, same
from tests.report.report_world import World, read


@pytest.mark.parametrize("width", [360, 420, 760, 1024, 1360, 1920])
def test_nothing_is_wider_than_the_window(browser: Browser, report: Path, width: int) -> None:
    browser.resize(width, 800)
    look(browser, report, number_of(report, "spatial", objects=1))
    browser.press("c", "KeyC")
    for key in ("o", "q"):
        browser.press(key, f"Key{key.upper()}")
        browser.until("document.querySelectorAll('.chart, .completion').length")
        assert browser.run("document.documentElement.scrollWidth") <= width
    wide = (
        "[...document.querySelectorAll('#questions button, #questions select, #questions h2, .stage, .timeline')]"
        ".filter(e => e.offsetParent && e.getBoundingClientRect().right > innerWidth + 1).length"
    )
    assert browser.run(wide) == 0


def test_everything_pressable_has_a_name_and_shows_its_focus(browser: Browser, report: Path) -> None:
    look(browser, report, number_of(report, "spatial"))
    unnamed = (
        "[...document.querySelectorAll('button, select, input, [tabindex=\"0\"], summary')].filter(e =>"
        "!(e.getAttribute('aria-label') || e.textContent.trim() || e.labels?.length)).map(e => e.outerHTML)"
    )
    assert browser.run(unnamed) == []
    for _ in range(12):
        browser.press("Tab", "Tab")
        outline = browser.run(
            "document.activeElement === document.body"
            " || getComputedStyle(document.activeElement).outlineStyle !== 'none'"
        )
        assert outline, browser.run("document.activeElement.outerHTML")


def test_text_can_be_read_in_light_and_in_dark(browser: Browser, report: Path) -> None:
    """Contrast of at least 4.5 to 1 (WCAG AA) for the colours that text is written in."""
    browser.open(report / "index.html")
    ratio = """(ink, paper) => { const c = document.createElement('canvas').getContext('2d');
      const style = getComputedStyle(document.documentElement);
      const light = (name) => { c.fillStyle = style.getPropertyValue(name); c.fillRect(0, 0, 1, 1);
        const [r, g, b] = [...c.getImageData(0, 0, 1, 1).data].map(v => v / 255)
          .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
      const [a, b] = [light(ink), light(paper)].sort((x, y) => y - x); return (a + 0.05) / (b + 0.05); }"""
    for dark in (False, True):
        browser.dark(dark)
        browser.until(f"document.documentElement.dataset.theme === '{'dark' if dark else 'light'}'")
        pairs = [
            (ink, paper)
            for ink in ("--ink", "--muted", "--a", "--b", "--gold", "--up", "--down")
            for paper in ("--panel", "--bg")
        ]
        pairs += [
            ("--up", "--up-soft"),
            ("--down", "--down-soft"),
            ("--accent", "--accent-soft"),
            ("--muted", "--accent-soft"),
        ]
        low = {
            pair: r
            for pair in pairs
            if (r := browser.run(f"({ratio})({json.dumps(pair[0])}, {json.dumps(pair[1])})")) < 4.5
        }
        assert low == {}, dark


def test_videos_that_moved_leave_a_page_with_boxes(browser: Browser, world: World, tmp_path: Path) -> None:
    """Moved before the report was made, and moved after."""
    videos = shutil.copytree(world.scenes.videos, tmp_path / "videos")
    for gone_first in (True, False):
        if gone_first:
            (tmp_path / "none").mkdir()
        options = Options(videos=tmp_path / "none" if gone_first else videos)
        out = build_report(world.run, tmp_path / f"report{gone_first}", options, lambda line: None).parent
        if not gone_first:
            shutil.rmtree(videos)
        number = number_of(out, "spatial")
        look(browser, out, number, "&c=1")
        message = (
            "(() => { const m = document.querySelector('.stage .message'); return m.hidden ? '' : m.textContent; })()"
        )
        said = browser.until(message)
        assert ("no such video" in said) if gone_first else ("not where it was" in said)
        record = read(out / "data" / "q" / f"{number}.js")
        t = browser.run("avst.clock().now()")
        wanted = [box for o in last_group(record)["completions"][1]["objects"] for box in held(o["track"], t)]
        browser.until("document.querySelectorAll('.box.a .line').length")
        assert same(browser.run(BOXES.format("a", "a")), wanted)
        browser.press("ArrowRight", "ArrowRight")
        assert browser.run("avst.clock().now()") == pytest.approx(t + 1)
        browser.press(" ", "Space")
        browser.until(f"avst.clock().now() > {t + 1.2}")


def test_a_missing_part_of_the_report_is_said(browser: Browser, report: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(report, tmp_path / "broken")
    (broken / "data" / "q" / "9.js").unlink()
    browser.open(f"{(broken / 'index.html').as_uri()}#questions?q=9")
    assert "data/q/9.js is missing" in browser.until("document.querySelector('#question .empty')?.textContent")


def test_served_it_seeks_by_ranges(browser: Browser, report: Path) -> None:
    number = number_of(report, "st")
    with make_server(report, 0) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            browser.open(f"http://localhost:{server.server_address[1]}/#questions?q={number}")
            browser.until("document.querySelectorAll('.completion').length")
            ready_video(browser)
            browser.run("avst.clock().seek(4)")
            ready_video(browser)
            assert browser.run("document.querySelector('video').currentTime") == pytest.approx(4, abs=0.05)
            assert browser.run("document.querySelector('video').currentSrc").startswith("http://localhost")
            assert browser.errors == []
        finally:
            browser.call("Page.navigate", url="about:blank")
            server.shutdown()
            thread.join()
