"""Python and packages: installed, as new as pyproject.toml asks, and importable."""

from __future__ import annotations

import platform
import tomllib
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import avst
from avst.doctor.check import Check, State
from avst.doctor.probe import ask

MODULES = {
    "pyyaml": "yaml",
    "qwen-vl-utils": "qwen_vl_utils",
    "flash-attn": "flash_attn",
    "liger-kernel": "liger_kernel",
}

# package -> (extra of pyproject.toml, what it is for)
EXTRAS = {
    "deepspeed": ("deepspeed", "ZeRO: states of the optimizer shared by GPUs"),
    "flash-attn": ("flash-attn", "model.attention: flash_attention_2"),
    "bitsandbytes": ("qlora", "model.lora.quantize_4bit"),
    "liger-kernel": ("liger", "fused kernels"),
    "decord": ("decoders", "media.decoder: decord"),
    "torchcodec": ("decoders", "media.decoder: torchcodec"),
    "vllm": ("vllm", "grpo.use_vllm"),
    "pyroomacoustics": ("spatial", "rooms with directions of sound"),
    "trackio": ("logging", "report_to: trackio"),
    "wandb": ("logging", "report_to: wandb"),
}


def check_packages() -> list[Check]:
    """A check for Python, each requirement and each extra."""
    needed, python, said_by = requirements()
    checks = [Check("packages", "requirements", "ok", f"as in {said_by}")]
    checks.append(_python(python))
    names = [name for name, _ in needed]
    errors = import_errors([*names, *EXTRAS])
    for name, wanted in needed:
        checks.append(_required(name, wanted, errors.get(name)))
    for name, (extra, purpose) in EXTRAS.items():
        checks.append(_optional(name, extra, purpose, errors.get(name)))
    return checks


def requirements() -> tuple[list[tuple[str, str]], str, str]:
    """([(package, version specifier)], Python's specifier, where this was read): the checkout's pyproject.toml, or what
    the installed avst says of itself."""
    project = Path(avst.__file__).resolve().parents[1] / "pyproject.toml"
    if project.is_file():
        said = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
        lines, python, where = said["dependencies"], said["requires-python"], "pyproject.toml"
    else:
        about = metadata.metadata("avst")
        lines = [line for line in metadata.requires("avst") or [] if "extra ==" not in line]
        python, where = about["Requires-Python"] or "", "the installed avst"
    return [_split(line) for line in lines], python, where


def _split(requirement: str) -> tuple[str, str]:
    """Example: _split("trl>=1.16") == ("trl", ">=1.16")."""
    name = next((requirement[:i] for i, c in enumerate(requirement) if c in "<>=!~ ;["), requirement)
    return name, requirement[len(name) :].partition(";")[0].strip()


def import_errors(packages: Sequence[str]) -> dict[str, str | None]:
    """package -> what its import said ("" for nothing), None for a package that is not installed.

    One child imports all; where it crashes, another goes on behind the package that did it.
    """
    waiting = [package for package in packages if version(package) is not None]
    found: dict[str, str | None] = dict.fromkeys(packages)
    while waiting:
        modules = {module_of(package): package for package in waiting}
        answers, ended = ask("avst.doctor.try_imports", list(modules))
        for answer in answers:
            if "name" in answer:
                found[modules[answer["name"]]] = answer["error"]
        done = [package for package in waiting if found[package] is not None]
        waiting = waiting[len(done) :]
        if waiting:
            found[waiting.pop(0)] = f"its import {ended or 'ended the process'}"
    return found


def version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def module_of(package: str) -> str:
    return MODULES.get(package, package.replace("-", "_"))


def _python(wanted: str) -> Check:
    running = platform.python_version()
    fits = _satisfies(running, wanted)
    mend = "" if fits else f"make a new environment with Python {wanted}"
    return Check("packages", "python", "ok" if fits else "broken", f"{running} (wants {wanted})", mend)


def _required(name: str, wanted: str, error: str | None) -> Check:
    running = version(name)
    line = f"pip install '{name}{wanted}'"
    if running is None:
        return Check("packages", name, "broken", f"not installed (wants {wanted or 'any'})", line)
    found = f"{running}" + (f" (wants {wanted})" if wanted else "")
    if not _satisfies(running, wanted):
        return Check("packages", name, "broken", found, f"pip install --upgrade '{name}{wanted}'")
    if error:
        return Check("packages", name, "broken", f"{running}, but {error}", f"pip install --force-reinstall {name}")
    return Check("packages", name, "ok", found)


def _optional(name: str, extra: str, purpose: str, error: str | None) -> Check:
    running, line = version(name), f"pip install -e '.[{extra}]'"
    if running is None:
        return Check("extras", name, "absent", purpose, line)
    state: State = "warning" if error else "ok"
    return Check("extras", name, state, f"{running}, {error or purpose}", mend_import(name, error) if error else "")


def mend_import(name: str, error: str) -> str:
    """What to do about a package that is there and cannot be imported."""
    if name == "torchcodec":
        return "install FFmpeg's shared libraries (4 to 8), such as: apt-get install ffmpeg"
    if "libcud" in error or "CUDA" in error:
        return f"{name} wants a GPU's libraries: use it on a machine that has them, or pip uninstall {name}"
    return f"pip install --force-reinstall {name}"


def _satisfies(running: str, wanted: str) -> bool:
    from packaging.specifiers import SpecifierSet

    return SpecifierSet(wanted).contains(running, prereleases=True)
