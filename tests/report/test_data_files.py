"""Data files cannot be more than data, whatever a model has written."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from avst.report.write import script
from tests.report.report_world import CANARIES, read


@pytest.mark.parametrize("text", [*CANARIES, "\ud800 half a pair", "\\", '"', "'", "*/ -->", "\r\n"])
def test_a_data_file_is_one_call_with_a_string(text: str) -> None:
    written = script("q/1", {"text": text, text: 1})
    assert written.isascii()
    assert re.fullmatch(r'avst\.put\("q/1", "(?:[^"\\\n<>&]|\\[^\n<>&])*"\);\n', written)
    inner = json.loads(written.removeprefix('avst.put("q/1", ').removesuffix(");\n"))
    assert json.loads(inner) == {"text": text, text: 1}


def test_what_models_wrote_is_in_data_files_alone(report: Path) -> None:
    """And there with no sharp bracket; the page itself is the same for every run."""
    for path in [*report.glob("data/**/*.js")]:
        text = path.read_text(encoding="ascii")
        assert "<" not in text
        assert text.count("\n") == 1
    said = "".join(
        c["text"] for n in range(8) for g in read(report / "data" / "q" / f"{n}.js")["groups"] for c in g["completions"]
    )
    assert "<answer>" in said
    static = Path(__file__).parents[2] / "avst" / "report" / "static"
    assert (report / "index.html").read_bytes() == (static / "index.html").read_bytes()


def test_the_page_parses_no_html_and_asks_for_nothing_elsewhere() -> None:
    static = Path(__file__).parents[2] / "avst" / "report" / "static"
    scripts = "".join(p.read_text(encoding="utf-8") for p in static.glob("js/*.js"))
    for forbidden in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "new Function",
        "fetch(",
        "XMLHttpRequest",
        "DOMParser",
        "srcdoc",
    ):
        assert forbidden not in scripts, forbidden
    everything = scripts + "".join(
        p.read_text(encoding="utf-8") for p in [*static.glob("css/*.css"), static / "index.html"]
    )
    assert set(re.findall(r"https?://[^\s\"']+", everything)) == {"http://www.w3.org/2000/svg"}
    page = (static / "index.html").read_text(encoding="utf-8")
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', page)
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    assert "style=" not in page
    assert not re.search(r"<script(?! src=)", page)
    assert {f"js/{p.name}" for p in static.glob("js/*.js")} == set(re.findall(r'src="(js/[^"]+)"', page))
    assert {f"css/{p.name}" for p in static.glob("css/*.css")} == set(re.findall(r'href="(css/[^"]+)"', page))


def test_scripts_and_styles_are_small() -> None:
    static = Path(__file__).parents[2] / "avst" / "report" / "static"
    assert {p.name: n for p in static.glob("*/*") if (n := p.read_text(encoding="utf-8").count("\n")) > 250} == {}
