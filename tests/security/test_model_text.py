"""What a model writes is text: no shell, no eval, no format string, no order to the terminal. The report's page:
tests/report; cards: tests/model_card; the watch screen: tests/watch; how long the worst texts take:
tests/test_hostile_text.py."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from avst.cli import main
from avst.failures import explain, keep_tracebacks_in
from avst.preview.look import Look
from avst.preview.show import prompt_and_gold
from avst.quickstart import _a_look
from avst.tasks.r_avst import load_annotations
from avst.watch.safe_text import safe_lines
from tests.security.canary import Canary

ESC = "\x1b[2J\x1b]0;owned\x07"


def sly_names(canary: Canary) -> list[str]:
    shell = canary.shell()
    return [
        f"$({shell})",
        f"`{shell}`",
        f"; {shell} #",
        f"| {shell}",
        f"{{__import__('os').system(\"{shell}\")}}",
        f"__import__('os').system(\"{shell}\")",
        "{0.__class__.__init__.__globals__}",
        "{name.__class__}",
        "%s %n %(name)s %d",
        "${name} $name",
        "\\g<0> \\1 (a+)+$ [",
        f"{ESC}dog",
    ]


def test_names_that_models_write_do_nothing(
    tmp_path: Path, canary: Canary, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read, matched, rewarded, explained and put into tables by `avst score`: a video a name."""
    monkeypatch.chdir(tmp_path)
    golden = json.loads((Path(__file__).parents[1] / "golden" / "r_avst_small.json").read_text(encoding="utf-8"))
    names = sly_names(canary)
    asking = json.loads(json.dumps(golden[0]).replace('"Q": "', f'"Q": {json.dumps(ESC)[:-1]}'))
    Path("a.json").write_text(json.dumps([asking | {"video_name": f"v{n}"} for n in range(len(names))]))
    with Path("p.jsonl").open("w") as file:
        for question in load_annotations("a.json"):
            name = names[int(question.video[1:])]
            text = f"<answer><object>{name}</object><when>[0, 1]</when><where>\n1.0: [1, 2, 30, 40]\n</where></answer>"
            file.write(json.dumps({"id": question.id, "completion": text}) + "\n")
    assert all(question.text.startswith(ESC) for question in load_annotations("a.json"))
    before = dict(os.environ)
    ids = [question.id for question in load_annotations("a.json")]
    asked = ["score", "--predictions", "p.jsonl", "--annotations", "a.json", "--out", "s.json", "--tables", "t"]
    assert main([*asked, "--explain", *ids]) == 0
    said = "".join(capsys.readouterr())
    assert not canary.dead
    assert dict(os.environ) == before
    assert "\x1b" not in said
    for ran in ("<class", "<built-in", "built_in", "<module"):
        assert ran not in said
    for name in names[:-1]:
        assert repr(name)[1:20] in said, "explained letter by letter"


def test_an_error_is_no_order_to_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sly_task = {f"sly{ESC}\u202e": [{"Q": "When?", "A": "?"}]}
    entries = [
        {"video_name": f"x{ESC}\u202ey", "duration": "no"},
        {"video_name": "z", "duration": 4.0, "annotation": [sly_task]},
    ]
    (tmp_path / "a.json").write_text(json.dumps(entries))
    assert main(["validate", str(tmp_path / "a.json")]) == 1
    (tmp_path / "r.yaml").write_text('name: a\nmodel: {path: b}\n"sly\\e[2J": 1\n')
    assert main(["train", str(tmp_path / "r.yaml")]) == 1
    out, err = capsys.readouterr()
    assert "video_name" in out
    assert 'field "sly' in out
    assert "sly" in err
    assert not {"\x1b", "\x07", "\u202e"} & set(out + err)


def test_a_warning_is_no_order_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Where nobody has set logging up, as with the command line."""
    main(["completion", "bash"])
    capsys.readouterr()
    assert logging.lastResort is not None
    record = logging.LogRecord("avst", logging.WARNING, "", 0, "skipped %s", (f"x{ESC}y hf_{'a' * 20}",), None)
    logging.lastResort.handle(record)
    assert capsys.readouterr().err == "skipped xy (not saved)\n"


def test_the_quickstart_shows_answers_as_text() -> None:
    row = {"step": 1, "question_id": "q", "prompt": f"p{ESC}", "gold": f"g{ESC}", "completion": f"c{ESC}\u202e"}
    shown = _a_look([row | {"total": t, "advantage": t, "reward_format": t} for t in (0.0, 1.0)])
    assert "best  c\n" in shown
    assert not {"\x1b", "\x07", "\u202e"} & set(shown)


def test_a_dry_run_shows_prompt_and_gold_answer_as_text() -> None:
    shown = prompt_and_gold(cast(Look, SimpleNamespace(text=f"a\n  b{ESC}", gold=f"<answer>\u202e\n{ESC}")))
    assert "\na\n  b\n" in shown
    assert not {"\x1b", "\x07", "\u202e"} & set(shown)


def test_lines_stay_lines() -> None:
    assert safe_lines(f"a{ESC}\n  b\x9b2Jc\u2066\n") == "a\n  bc\n"


def test_a_traceback_is_its_owners_and_holds_no_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is it written through a link that somebody has laid in a folder that all may write to."""
    monkeypatch.setattr("avst.failures._kept_in", [])
    monkeypatch.setattr("avst.failures.time.strftime", lambda form: "now")
    keep_tracebacks_in(tmp_path)
    name = tmp_path / f"avst-train-now-{os.getpid()}.log"
    explain(KeyError(f"hf_{'a' * 20}"), "train")
    assert name.stat().st_mode & 0o777 == 0o600
    assert "KeyError" in name.read_text()
    assert "(not saved)" in name.read_text()
    name.unlink()
    (tmp_path / "precious").write_text("precious")
    name.symlink_to(tmp_path / "precious")
    explain(KeyError("x"), "train")
    assert (tmp_path / "precious").read_text() == "precious"
