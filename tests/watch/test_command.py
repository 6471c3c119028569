"""avst watch and what is no run: a file, a folder of runs, a folder that is not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from avst.cli import main


def test_what_can_never_be_a_run_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "runs" / "first").mkdir(parents=True)
    (tmp_path / "runs" / "first" / "run.json").write_text("{}")
    assert main(["watch", str(tmp_path / "file"), "--once"]) == 1
    assert "is a file; a run is a folder" in capsys.readouterr().err
    assert main(["watch", str(tmp_path / "runs"), "--once"]) == 1
    assert f"did you mean {tmp_path / 'runs' / 'first'}?" in capsys.readouterr().err


@pytest.mark.parametrize("every", ["nan", "0", "-1", "often", "inf"])
def test_seconds_between_looks_are_a_number(every: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["watch", "anywhere", "--every", every])
    assert "is not a number of seconds" in capsys.readouterr().err


def test_once_says_so_where_there_is_no_run_yet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watch", str(tmp_path / "later"), "--once"]) == 1
    assert "waiting for the run to begin" in capsys.readouterr().out
