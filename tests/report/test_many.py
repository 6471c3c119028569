"""1,600 questions: the page begins as fast as with twenty, because it reads and draws only what is looked at."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest

from avst.report.build import Options, build_report
from avst.scenes.synthesise import Synthesised, count_questions
from tests.report.browser import Browser
from tests.report.report_world import CANARIES, World, group_rows, make_run, read

MANY = 1600


@pytest.fixture(scope="module")
def many(scenes: Synthesised, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a run on 1,600 questions: the scenes' own under other names, whose videos are not there."""
    folder = tmp_path_factory.mktemp("many")
    entries = json.loads(scenes.annotations["train"].read_text())
    copies, questions = [], 0
    while questions < MANY:
        for entry in entries:
            copies.append(entry | {"video_name": f"clip{len(copies):04d}"})
            questions += count_questions(entry)
    (folder / "annotations_train.json").write_text(json.dumps(copies))
    named = {"train": folder / "annotations_train.json", "eval": scenes.annotations["eval"]}
    world = make_run(folder / "run", replace(scenes, annotations=named), steps=())
    write_groups(world)
    return build_report(world.run, folder / "out", Options(), lambda line: None).parent


def write_groups(world: World) -> None:
    from avst.run_folder import RunFolder

    rng = random.Random(0)
    questions = world.questions("train")[:MANY]
    asked = enumerate(questions)
    rows = [row for n, q in asked for row in group_rows(q, 0, 0.2, rng, True, CANARIES[n % len(CANARIES)])]
    RunFolder(world.run).write_completions(0, rows)


def test_what_is_read_at_first_is_small(many: Path) -> None:
    rows = read(many / "data" / "index.js")["questions"]
    trained = [row for row in rows if any(group[0] == 0 for group in row[4])]
    assert len(trained) == MANY
    first = [many / "index.html", *many.glob("js/*"), *many.glob("css/*"), many / "data" / "index.js"]
    assert sum(path.stat().st_size for path in first) < 600_000
    assert max(path.stat().st_size for path in (many / "data" / "q").iterdir()) < 60_000


def test_only_what_is_in_sight_exists(browser: Browser, many: Path) -> None:
    browser.open(f"{(many / 'index.html').as_uri()}#questions")
    browser.until("document.querySelectorAll('.completion').length")
    assert browser.run("document.querySelectorAll('.row').length") < 40
    assert browser.run("document.getElementById('found').textContent").startswith("1,600 questions")
    assert browser.run("document.querySelectorAll('video').length") <= 1
    data = "performance.getEntriesByType('resource').map(e => e.name.split('/data/')[1]).filter(Boolean).sort()"
    assert len(browser.run(data)) <= 5  # index, curves or tables, one question, one video

    browser.press("End", "End")
    last = len(read(many / "data" / "index.js")["questions"]) - 1
    browser.until(f"avst.state.q === {last} && document.getElementById('row-{last}')")
    top, height = browser.run(
        "(() => { const l = document.getElementById('list'), r = document.getElementById('row-" + str(last) + "');"
        "const a = l.getBoundingClientRect(), b = r.getBoundingClientRect(); return [b.bottom - a.top, a.height]; })()"
    )
    assert 0 < top <= height + 1
    assert browser.run("document.querySelectorAll('.row').length") < 40
    browser.run("document.getElementById('list').scrollTop = 40000")
    browser.until("[...document.querySelectorAll('.row')].some(r => r.getAttribute('aria-posinset') === '745')")
    browser.set("#sort", "high")
    browser.until("document.querySelectorAll('.row').length > 5")
    assert browser.run("document.querySelectorAll('.row').length") < 40
    assert browser.errors == []
