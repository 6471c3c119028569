"""The file of predictions: each bad line is named, odd but good ones are read. The rest is in test_score_command.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from avst.errors import AvstError
from avst.scores import read_predictions


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (
            ['{"id": "a", "completion": "x"}', "", '{"id": "a", "completion": "x"}'],
            "line 3: field \"id\": 'a' stands in line 1",
        ),
        (['{"id": "a", "completion": "x"'], "line 1: broken JSON"),
        (['["a", "x"]'], "line 1: must be an object"),
        (['{"completion": "x"}'], 'line 1: field "id": is missing'),
        (['{"id": 3, "completion": "x"}'], 'line 1: field "id": must be text'),
        (
            ['{"id": "a", "completion": "x"}', '{"id": "b", "completion": null}'],
            'line 2: field "completion": must be text',
        ),
        (["[" * 100_000], "line 1: broken JSON"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, lines: list[str], says: str) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(AvstError) as caught:
        read_predictions(path)
    assert str(caught.value).startswith(f"{path}: {says}")
    assert "\n" not in str(caught.value)


def test_odd_but_good_lines(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_bytes(
        '\ufeff{"id": "a", "completion": "x\u2028y", "more": 1}\r\n\r\n{"id": "b", "completion": ""}'.encode()
    )
    assert read_predictions(path) == {"a": "x\u2028y", "b": ""}


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(AvstError, match=r"absent\.jsonl: cannot be read"):
        read_predictions(tmp_path / "absent.jsonl")
