"""Which programs avst starts, and what they may be told. That no shell is used: ruff's S602 and S604 to S606, which
tests/security/test_static.py sees to."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from avst.provenance import git_state
from tests.security.canary import Canary


def test_a_repository_starts_no_program(tmp_path: Path, canary: Canary, monkeypatch: pytest.MonkeyPatch) -> None:
    """`git status`, which every run asks, starts what a folder's own .git names: an fsmonitor, a hook."""
    repository = tmp_path / "repository"
    repository.mkdir()
    sly = tmp_path / "sly.sh"
    sly.write_text(f"#!/bin/sh\n{canary.shell()}\n")
    sly.chmod(0o755)

    def git(*arguments: str) -> None:
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", *who, "-C", str(repository), *arguments], check=True, capture_output=True)

    git("init")
    (repository / "a").write_text("a")
    git("add", "a")
    git("commit", "-m", "a")
    git("config", "core.fsmonitor", str(sly))
    hook = repository / ".git" / "hooks" / "post-index-change"
    hook.parent.mkdir(exist_ok=True)
    hook.write_bytes(sly.read_bytes())
    hook.chmod(0o755)
    (repository / "a").touch()  # the index is stale: a status would write it
    monkeypatch.chdir(repository)
    state = git_state()["working_folder"]
    assert state is not None
    assert len(state["commit"]) == 40
    assert not state["dirty"]
    assert not canary.dead
    git("status")
    assert canary.dead, "the trap works"
