"""The page in a real browser, from disk, with real clicks and keys."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from avst.report.build import Options, build_report
from avst.report.serve import make_server
from tests.report.browser import Browser
from tests.report.report_world import CANARIES, World
from tests.report.test_judging import read

BOXES = "[...document.querySelectorAll('.stage.{0} .box.{1} .line')].map(r => ['x','y','width','height'].map(k => +r.getAttribute(k)))"
SELECTED = "+document.querySelector('.group.a .head[aria-pressed=true]').dataset.completion"


def number_of(report: Path, task: str, objects: int = 1) -> int:
    """The first training question of a task with so many gold objects or more that are seen."""
    rows = read(report / "data" / "index.js")["questions"]
    for number in range(len(rows)):
        record = read(report / "data" / "q" / f"{number}.js")
        seen = [o for o in record["gold"] if any(any(e[1:]) for e in o["track"])]
        trained = any(g["step"] is not None for g in record["groups"])
        if record["task"] == task and trained and (task == "temporal" or len(seen) >= objects):
            return number
    raise LookupError(task)


def look(browser: Browser, report: Path, number: int, more: str = "") -> dict[str, Any]:
    """Open the page at a question; its record."""
    browser.open(f"{(report / 'index.html').as_uri()}#questions?q={number}{more}")
    browser.until("document.querySelectorAll('.completion').length")
    return read(report / "data" / "q" / f"{number}.js")


def ready_video(browser: Browser) -> None:
    browser.until("document.querySelector('video').readyState >= 2 && !document.querySelector('video').seeking")


def last_group(record: dict[str, Any]) -> dict[str, Any]:
    return [g for g in record["groups"] if g["set"] == 0][-1]


def held(track: list[list[float]], t: float) -> list[list[float]]:
    """Boxes at time t by the rule of the reward, as [x, y, width, height]: the nearest written time, at most 0.5 s off."""
    seen = [e for e in track if any(e[1:])]
    near = min((abs(e[0] - t) for e in seen), default=9.0)
    chosen = [e for e in seen if abs(abs(e[0] - t) - near) < 1e-9]
    first = min((e[0] for e in chosen), default=0.0)
    return [[e[1], e[2], e[3] - e[1], e[4] - e[2]] for e in chosen if e[0] == first] if near <= 0.5 else []


def same(found: list[list[float]], wanted: list[list[float]]) -> bool:
    return len(found) == len(wanted) and all(
        a == pytest.approx(b, abs=1e-3) for a, b in zip(sorted(found), sorted(wanted), strict=True)
    )


def test_a_click_on_a_completion_moves_the_boxes(browser: Browser, report: Path) -> None:
    record = look(browser, report, number_of(report, "spatial"))
    ready_video(browser)
    answers = last_group(record)["completions"]
    first = min(e[0] for o in record["gold"] for e in o["track"] if any(e[1:]))
    assert browser.run("avst.clock().now()") == pytest.approx(
        first, abs=0.05
    )  # it opens where there is something to see
    gold = [box for o in record["gold"] for box in held(o["track"], first)]
    seen = []
    for i in (1, 3, 4):
        browser.click(f".group.a [data-completion='{i}']")
        assert browser.run(SELECTED) == i
        boxes = browser.run(BOXES.format("a", "a"))
        assert same(boxes, [box for o in answers[i]["objects"] for box in held(o["track"], first)])
        assert same(browser.run(BOXES.format("a", "gold")), gold)
        seen.append(boxes)
        assert browser.run("document.querySelector('.completion.open pre').textContent") == answers[i]["text"]
    assert seen[0] != seen[1] != seen[2]
    assert browser.errors == []


def test_a_click_on_the_timeline_sets_video_and_boxes(browser: Browser, report: Path) -> None:
    record = look(browser, report, number_of(report, "st"))
    ready_video(browser)
    duration = browser.run("avst.clock().duration")
    answer = last_group(record)["completions"][browser.run(SELECTED)]
    left, top, width = browser.run(
        "(() => { const r = document.querySelector('.timeline').getBoundingClientRect(); return [r.left, r.top, r.width]; })()"
    )
    drawn = set()
    for t in (0.4, 1.2, 2.1, 3.3, 4.4):
        browser.click_at(left + 92 + (width - 102) * t / duration, top + 40)
        ready_video(browser)
        now = browser.run("avst.clock().now()")
        assert now == pytest.approx(t, abs=0.05)
        assert browser.run("document.querySelector('video').currentTime") == pytest.approx(t, abs=0.05)
        assert float(browser.run("document.querySelector('.timeline').getAttribute('aria-valuenow')")) == pytest.approx(
            now, abs=0.01
        )
        wanted = [box for o in answer["objects"] for box in held(o["track"], now)]
        assert same(browser.run(BOXES.format("a", "a")), wanted)
        drawn.add(json.dumps(wanted))
    assert len(drawn) > 1
    cursor = browser.run("+document.querySelector('.timeline .cursor').getAttribute('x1')")
    assert cursor == pytest.approx(92 + (width - 102) * now / duration, abs=1.5)


def test_boxes_stand_for_their_seconds_or_on_the_way_between(browser: Browser, report: Path) -> None:
    browser.open(report / "index.html")
    track = [
        [1, 0, 0, 10, 10],
        [2, 20, 0, 40, 20],
        [4, 1, 1, 2, 2],
        [5, 0, 0, 0, 0],
        [6, 3, 3, 9, 9],
        [6, 50, 50, 60, 60],
    ]

    def at(t: float, between: bool = False) -> Any:
        return browser.run(f"avst.boxesAt({json.dumps(track)}, {t}, {json.dumps(between)}).map(f => f.box)")

    assert at(0.4) == []
    assert at(0.5) == at(1.0) == at(1.5) == [[0, 0, 10, 10]]  # the earlier one where both are as near
    assert at(1.51) == [[20, 0, 40, 20]]
    assert at(2.6) == []
    assert at(5.0) == []  # not visible says nothing
    assert at(6.2) == [[3, 3, 9, 9], [50, 50, 60, 60]]
    assert at(1.25, True) == [[5, 0, 17.5, 12.5]]
    assert at(3.0, True) == []  # two seconds apart are not bridged


def test_texts_of_models_stay_texts(browser: Browser, report: Path) -> None:
    """Every canary is shown letter by letter, and does nothing."""
    rows = read(report / "data" / "index.js")["questions"]
    met = set()
    for number in range(len(rows)):
        record = read(report / "data" / "q" / f"{number}.js")
        group = next((g for g in record["groups"] if g["step"] is not None), None)
        said = group["completions"][-1]["text"] if group else None
        if said in met or said is None:
            continue
        met.add(said)
        look(browser, report, number, f"&sa={group['step']}&c={len(group['completions']) - 1}")
        assert browser.run("document.querySelector('.completion.open pre').textContent") == said
    assert met == set(CANARIES)
    assert browser.run("document.title") == "shaken · avst report"
    assert (
        browser.run("document.querySelectorAll('img, iframe, object, embed, main script, main svg[onload]').length")
        == 0
    )
    assert browser.errors == []


def test_the_policy_refuses_what_the_page_does_not_need(browser: Browser, report: Path) -> None:
    """The second line of defence: were text ever parsed, no handler, script or style of it would work."""
    browser.open(report / "index.html")
    browser.run(
        "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"document.title=1\">"
        '<i style="position:fixed" id=sly></i><a id=go href="javascript:document.title=2">x</a>\')'
    )
    browser.run("document.getElementById('go').click()")
    browser.run(
        "(() => { const s = document.createElement('script'); s.textContent = 'document.title=3'; document.body.append(s); })()"
    )
    assert browser.run("fetch('https://example.com').then(() => 'sent', () => 'refused')") == "refused"
    assert browser.run("getComputedStyle(document.getElementById('sly')).position") == "static"
    assert browser.run("document.title") == "shaken · avst report"
    assert any("Content Security Policy" in e for e in browser.errors)


def test_filters_search_and_order(browser: Browser, report: Path, world: World) -> None:
    browser.open(f"{(report / 'index.html').as_uri()}#questions")
    shown = "[...document.querySelectorAll('.row')].map(r => [+r.dataset.q, +r.querySelector('.mean').textContent])"
    every = browser.until(f"(() => {{ const rows = {shown}; return rows.length ? rows : null; }})()")
    rows = read(report / "data" / "index.js")["questions"]
    trained = [i for i, row in enumerate(rows) if any(g[0] == 0 for g in row[4])]
    assert [i for i, _ in every] == trained[: len(every)]

    browser.click(".chip.st")
    assert {rows[i][1] for i, _ in browser.run(shown)} == {"st"}
    browser.click(".chip.all")

    browser.run(
        "(() => { const s = document.getElementById('sort'); s.value = 'low'; s.dispatchEvent(new Event('change')); })()"
    )
    means = [mean for _, mean in browser.run(shown)]
    assert means == sorted(means)
    assert len(set(means)) > 1
    browser.run(
        "(() => { const s = document.getElementById('filter-least'); s.value = '1.5'; s.dispatchEvent(new Event('input')); })()"
    )
    assert all(mean >= 1.495 for _, mean in browser.run(shown))
    browser.run(
        "(() => { const s = document.getElementById('filter-least'); s.value = ''; s.dispatchEvent(new Event('input')); })()"
    )

    browser.press("/", "Slash")  # the search takes the keys now
    for letter in "kettle":
        browser.press(letter)
    texts = read(report / "data" / "search.js")
    wanted = {i for i in trained if "kettle" in texts[i] or "kettle" in f"{rows[i][2]} {rows[i][3]}"}
    browser.until(f"document.getElementById('found').textContent.startsWith('{len(wanted)} question')")
    assert 0 < len(wanted) < len(trained)
    assert {i for i, _ in browser.run(shown)} <= wanted
    assert browser.errors == []


def test_keys(browser: Browser, report: Path) -> None:
    look(browser, report, number_of(report, "spatial"))
    start = browser.run("avst.state.q")
    browser.press("j", "KeyJ")
    browser.until(f"document.querySelector('.row[aria-selected=true]').dataset.q === '{start + 1}'")
    browser.press("ArrowUp", "ArrowUp")
    browser.until(f"avst.state.q === {start} && document.querySelectorAll('.group.a .completion').length === 6")
    browser.press("4", "Digit4")
    assert browser.run(SELECTED) == 3
    browser.press("n", "KeyN")
    assert browser.run(SELECTED) == 4
    ready_video(browser)
    before = browser.run("avst.clock().now()")
    browser.press("ArrowRight", "ArrowRight")
    assert browser.run("avst.clock().now()") == pytest.approx(before + 1)
    browser.press("ArrowLeft", "ArrowLeft", shift=True)
    assert browser.run("avst.clock().now()") == pytest.approx(before + 0.9)
    browser.press(" ", "Space")
    browser.until("!document.querySelector('video').paused && document.querySelector('video').currentTime > 0.1")
    browser.press(" ", "Space")
    browser.until("document.querySelector('video').paused")
    browser.press("c", "KeyC")
    assert browser.run("document.querySelectorAll('.stage').length") == 2
    browser.press("@", "Digit2", shift=True)
    assert browser.run("document.querySelector('.group.b .head[aria-pressed=true]').dataset.completion") == "1"
    theme = browser.run("document.documentElement.dataset.theme")
    browser.press("t", "KeyT")
    assert browser.run("document.documentElement.dataset.theme") != theme
    browser.press("t", "KeyT")
    browser.press("?", "Slash", shift=True)
    assert browser.run("document.getElementById('keys').open")
    browser.press("j", "KeyJ")
    assert browser.run("avst.state.q") == start  # the dialog has the keys
    browser.press("Escape", "Escape")
    browser.until("!document.getElementById('keys').open")
    browser.press("o", "KeyO")
    browser.until("document.querySelectorAll('.chart').length")
    assert browser.errors == []


def test_a_link_leads_back_to_the_same_view(browser: Browser, report: Path) -> None:
    number = number_of(report, "spatial")
    look(browser, report, number)
    browser.press("c", "KeyC")
    browser.press("3", "Digit3")
    hash_ = browser.run("location.hash")
    browser.open(f"{(report / 'index.html').as_uri()}{hash_}")
    browser.until("document.querySelectorAll('.stage').length === 2")
    assert browser.run(SELECTED) == 2
    assert browser.run("avst.state.q") == number
    browser.open(f"{(report / 'index.html').as_uri()}#questions?q=99999&a=zz&c=-3&sa=x")  # and nonsense leads somewhere
    browser.until("document.querySelector('#question .empty, .completion')")
    assert browser.errors == []


def test_two_runs_stand_side_by_side(browser: Browser, compared: Path) -> None:
    number = number_of(compared, "spatial")
    browser.open(f"{(compared / 'index.html').as_uri()}#questions?q={number}")
    browser.until("document.querySelectorAll('.group').length === 2")
    ready_video(browser)
    record = read(compared / "data" / "q" / f"{number}.js")
    sets = read(compared / "data" / "index.js")["sets"]
    t = browser.run("avst.clock().now()")
    for who, run in (("a", 0), ("b", 1)):
        index = next(i for i, s in enumerate(sets) if s["run"] == run and s["kind"] == "training")
        answers = [g for g in record["groups"] if g["set"] == index][-1]["completions"]
        browser.click(f".group.{who} [data-completion='2']")
        wanted = [box for o in answers[2]["objects"] for box in held(o["track"], t)]
        assert same(browser.run(BOXES.format(who, who)), wanted)
        assert (
            browser.run(f"document.querySelector('.group.{who} .completion.open pre').textContent")
            == answers[2]["text"]
        )
    browser.until("(() => { const c = document.querySelector('canvas'); return c && c.width > 0; })()")
    texts = browser.run("[...document.querySelectorAll('.group h3')].map(h => h.textContent)")
    assert texts == ["shaken: training, last group", "other: training, last group"]
    browser.press("o", "KeyO")
    browser.until("document.querySelectorAll('.plot .line.dashed').length")
    assert browser.errors == []


def test_the_overview_reads_values_at_the_pointer(browser: Browser, report: Path, world: World) -> None:
    browser.open(report / "index.html")
    browser.until("document.querySelectorAll('.plot path').length")
    curves = read(report / "data" / "curves.js")[0]
    browser.run(
        "(() => { const s = document.querySelector('.smoothing input'); s.value = 1; s.dispatchEvent(new Event('input')); })()"
    )
    browser.until("document.querySelectorAll('.plot path').length")
    left, top, width = browser.run(
        "(() => { const r = document.querySelector('.plot').getBoundingClientRect(); return [r.left, r.top, r.width]; })()"
    )
    step = curves["steps"][5]
    browser.move(left + 38 + (width - 46) * step / curves["steps"][-1], top + 50)
    assert browser.run("document.querySelector('.chart .at').textContent") == f"step {step}"
    value = browser.run("document.querySelector('.chart .key.all .value').textContent")
    assert float(value) == pytest.approx(curves["series"]["reward"][5], abs=6e-4)
    tables = browser.run("[...document.querySelectorAll('table.figures tbody th')].map(t => t.textContent)")
    assert {"before", "after", "whole clip trivial", "whole frame trivial"} <= set(tables)


@pytest.mark.parametrize("width", [360, 420, 760, 1024, 1360, 1920])
def test_nothing_is_wider_than_the_window(browser: Browser, report: Path, width: int) -> None:
    browser.resize(width, 800)
    look(browser, report, number_of(report, "spatial", objects=1))
    browser.press("c", "KeyC")
    for key in ("o", "q"):
        browser.press(key, f"Key{key.upper()}")
        browser.until("document.querySelectorAll('.chart, .completion').length")
        assert browser.run("document.documentElement.scrollWidth") <= width
    wide = "[...document.querySelectorAll('#questions button, #questions select, #questions h2, .stage, .timeline')].filter(e => e.offsetParent && e.getBoundingClientRect().right > innerWidth + 1).length"
    assert browser.run(wide) == 0


def test_everything_pressable_has_a_name_and_shows_its_focus(browser: Browser, report: Path) -> None:
    look(browser, report, number_of(report, "spatial"))
    unnamed = "[...document.querySelectorAll('button, select, input, [tabindex=\"0\"], summary')].filter(e => !(e.getAttribute('aria-label') || e.textContent.trim() || e.labels?.length)).map(e => e.outerHTML)"
    assert browser.run(unnamed) == []
    for _ in range(12):
        browser.press("Tab", "Tab")
        outline = browser.run(
            "(() => { const e = document.activeElement, s = getComputedStyle(e); return e === document.body || s.outlineStyle !== 'none'; })()"
        )
        assert outline, browser.run("document.activeElement.outerHTML")


def test_text_can_be_read_in_light_and_in_dark(browser: Browser, report: Path) -> None:
    """Contrast of at least 4.5 to 1 (WCAG AA) for the colours that text is written in."""
    browser.open(report / "index.html")
    ratio = """(ink, paper) => { const c = document.createElement('canvas').getContext('2d');
      const style = getComputedStyle(document.documentElement);
      const light = (name) => { c.fillStyle = style.getPropertyValue(name); c.fillRect(0, 0, 1, 1);
        const [r, g, b] = [...c.getImageData(0, 0, 1, 1).data].map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
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
