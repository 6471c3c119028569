"""Which code is running: versions of the libraries, and the state of the git repositories it comes from."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import avst

LIBRARIES = (
    *("torch", "torchvision", "transformers", "trl", "accelerate", "peft"),
    *("qwen-vl-utils", "av", "soxr", "gensim", "numpy"),
)
OPTIONAL = ("deepspeed", "flash-attn", "bitsandbytes", "liger-kernel", "vllm", "decord", "torchcodec")


def versions() -> dict[str, str | None]:
    """Library -> version, None where it is not installed; extras only where they are."""
    found: dict[str, str | None] = {"avst": avst.__version__, "python": platform.python_version()}
    for name in LIBRARIES + OPTIONAL:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            if name in LIBRARIES:
                found[name] = None
    return found


def git_state() -> dict[str, Any]:
    """{"avst": …, "working_folder": …}: each {"commit", "dirty", "changed"}, or None where there is no repository.

    changed: up to 50 lines of `git status`. avst installed from a wheel has no repository of its own, even where the
    environment stands inside one.
    """
    package = Path(avst.__file__).parent
    tracked = _git(package, "ls-files", "--error-unmatch", "__init__.py") is not None
    return {"avst": _state(package) if tracked else None, "working_folder": _state(Path.cwd())}


def _state(folder: Path) -> dict[str, Any] | None:
    commit = _git(folder, "rev-parse", "HEAD")
    status = _git(folder, "status", "--porcelain")
    if commit is None or status is None:
        return None
    changed = status.splitlines()
    return {"commit": commit.strip(), "dirty": bool(changed), "changed": changed[:50]}


def _git(folder: Path, *arguments: str) -> str | None:
    """git's answer; None where there is no git, no repository, or no answer in ten seconds.

    A repository's own config and hooks may name programs that `git status` starts; none of them is started here.
    """
    command = ["git", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "--no-optional-locks"]
    try:
        done = subprocess.run(
            [*command, "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
