"""Packages that are missing, old, broken or deadly to import are one line each."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from avst.doctor.check import Check, as_json
from avst.doctor.packages import check_packages, import_errors, requirements
from avst.doctor.probe import ask


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """package(name, code): one that is installed, as far as metadata can tell, with this code as its module."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))

    def install(name: str, code: str) -> None:
        (tmp_path / f"{name}.py").write_text(code)
        about = tmp_path / f"{name}-1.5.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\n")
        importlib.invalidate_caches()

    return install


def test_each_import_is_one_line_whatever_it_does(package: Callable[[str, str], None]) -> None:
    package("fine", "print('hello from an import')")
    package("raises", "raise OSError('libfoo.so.1: cannot open\\nshared object file')")
    package("leaves", "import sys; sys.exit('no licence')")
    package("crashes", "import os; os.abort()")
    package("after", "x = 1")
    found = import_errors(["fine", "raises", "leaves", "crashes", "after", "nowhere"])
    assert found == {
        "fine": "",
        "raises": "OSError: libfoo.so.1: cannot open shared object file",
        "leaves": "SystemExit: no licence",
        "crashes": "its import crashed (SIGABRT)",
        "after": "",
        "nowhere": None,
    }
    assert "raises" not in sys.modules


def test_a_process_that_hangs_is_left() -> None:
    answers, ended = ask("timeit", ["-n", "1", "-r", "1", "import time; time.sleep(60)"], timeout_s=0.5)
    assert (answers, ended) == ([], "no answer in 0.5 s")


def test_old_missing_and_broken_requirements_have_a_line_that_mends_them(
    package: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    package("old", "")
    package("bad", "raise OSError('libbad')")
    package("good", "")
    package("decord", "raise OSError('libavformat.so')")
    needed = [("old", ">=2"), ("bad", ""), ("good", ">=1.2"), ("gone", ">=3")]
    monkeypatch.setattr("avst.doctor.packages.requirements", lambda: (needed, ">=3.11", "a test"))
    checks = {check.name: check for check in check_packages()}
    assert checks["old"] == Check("packages", "old", "broken", "1.5 (wants >=2)", "pip install --upgrade 'old>=2'")
    assert checks["bad"].found == "1.5, but OSError: libbad"
    assert checks["bad"].mend == "pip install --force-reinstall bad"
    assert checks["good"] == Check("packages", "good", "ok", "1.5 (wants >=1.2)")
    assert checks["gone"] == Check("packages", "gone", "broken", "not installed (wants >=3)", "pip install 'gone>=3'")
    assert (checks["decord"].section, checks["decord"].state) == ("extras", "warning")  # nothing needs it
    assert checks["deepspeed"].mend == "pip install -e '.[deepspeed]'"
    assert as_json(checks.values())["broken"] == 3


def test_requirements_are_those_of_pyproject() -> None:
    needed, python, where = requirements()
    assert (python, where) == (">=3.11", "pyproject.toml")
    assert dict(needed)["trl"] == ">=1.16"
    assert dict(needed)["torchvision"] == ""


def test_every_extra_that_is_named_exists() -> None:
    import tomllib

    from avst.doctor.packages import EXTRAS

    project = tomllib.loads((Path(__file__).resolve().parents[2] / "pyproject.toml").read_text())["project"]
    for name, (extra, _) in EXTRAS.items():
        assert name in project["optional-dependencies"][extra]
