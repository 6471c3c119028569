"""The page in a real browser, from disk, with real clicks and keys."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.report.browser import Browser
from tests.report.page_reading import BOXES, SELECTED, held, last_group, look, number_of, ready_video, same
from tests.report.report_world import CANARIES, World, read


def test_a_click_on_a_completion_moves_the_boxes(browser: Browser, report: Path) -> None:
    record = look(browser, report, number_of(report, "spatial"))
    ready_video(browser)
    answers = last_group(record)["completions"]
    first = min(e[0] for o in record["gold"] for e in o["track"] if any(e[1:]))
    assert browser.run("avst.clock().now()") == pytest.approx(
        first, abs=0.05
    )  # it opens where there is something to see
    gold = [box for o in record["gold"] for box in held(o["track"], first)]
    seen, scored = [], 0
    for i in (1, 3, 4):
        browser.click(f".group.a [data-completion='{i}']")
        assert browser.run(SELECTED) == i
        boxes = browser.run(BOXES.format("a", "a"))
        assert same(boxes, [box for o in answers[i]["objects"] for box in held(o["track"], first)])
        assert same(browser.run(BOXES.format("a", "gold")), gold)
        seen.append(boxes)
        ious = {f"{iou:.2f}" for _, t, _, iou in answers[i]["seconds"] if abs(t - first) <= 0.5}
        tags = browser.run("[...document.querySelectorAll('.box.a text')].map(t => t.textContent.split('  ')[1])")
        assert {tag for tag in tags if tag} <= ious
        scored += len([tag for tag in tags if tag])
        assert browser.run("document.querySelector('.completion.open pre').textContent") == answers[i]["text"]
    assert seen[0] != seen[1] != seen[2]
    assert scored
    assert browser.errors == []


def test_a_click_on_the_timeline_sets_video_and_boxes(browser: Browser, report: Path) -> None:
    record = look(browser, report, number_of(report, "st"))
    ready_video(browser)
    duration = browser.run("avst.clock().duration")
    answer = last_group(record)["completions"][browser.run(SELECTED)]
    left, top, width, _ = browser.place(".timeline")
    drawn = set()
    for t in (0.4, 1.2, 2.1, 3.3, 4.4):
        browser.click_at(left + 92 + (width - 102) * t / duration, top + 46)
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
        "(() => { const s = document.createElement('script'); s.textContent = 'document.title=3';"
        "document.body.append(s); })()"
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

    browser.set("#sort", "low")
    means = [mean for _, mean in browser.run(shown)]
    assert means == sorted(means)
    assert len(set(means)) > 1
    browser.set("#filter-least", 1.5)
    assert all(mean >= 1.495 for _, mean in browser.run(shown))
    browser.set("#filter-least", "")

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
    browser.until("!!document.querySelector('#question .empty, .completion')")
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
    browser.set(".smoothing input", 1)
    browser.until("document.querySelectorAll('.plot path').length")
    left, top, width, _ = browser.place(".plot")
    step = curves["steps"][5]
    browser.move(left + 38 + (width - 46) * step / curves["steps"][-1], top + 50)
    assert browser.run("document.querySelector('.chart .at').textContent") == f"step {step}"
    value = browser.run("document.querySelector('.chart .key.all .value').textContent")
    assert float(value) == pytest.approx(curves["series"]["reward"][5], abs=6e-4)
    tables = browser.run("[...document.querySelectorAll('table.figures tbody th')].map(t => t.textContent)")
    assert {"before", "after", "whole clip trivial", "whole frame trivial"} <= set(tables)
