"""Decoders, and FFmpeg's libraries inside PyAV."""

from __future__ import annotations

from typing import Any

from avst.doctor.check import Check
from avst.doctor.packages import mend_import, version
from avst.doctor.probe import ask

DECODER_PACKAGES = {"pyav": "av", "decord": "decord", "torchcodec": "torchcodec"}


def check_media(chosen: str = "pyav") -> list[Check]:
    """chosen: the recipe's media.decoder; another one that cannot be used is no defect."""
    answers, ended = ask("avst.doctor.try_decoders", list(DECODER_PACKAGES))
    said: dict[str, Any] = {key: value for answer in answers for key, value in answer.items()}
    checks = []
    if "ffmpeg" in said:
        libraries = ", ".join(f"{name} {number}" for name, number in said["ffmpeg"].items())
        checks.append(Check("decoders", "FFmpeg in PyAV", "ok", f"PyAV {said['av']}: {libraries}"))
    else:
        checks.append(Check("decoders", "FFmpeg in PyAV", "broken", ended, "pip install --force-reinstall av"))
    if "ffmpeg" in said and "written" not in said:
        mend = "pip install --force-reinstall av (its wheels bring libx264 and AAC)"
        checks.append(Check("decoders", "encoder", "broken", f"no clip could be written: {ended}", mend))
    errors = {answer["decoder"]: answer["error"] for answer in answers if "decoder" in answer}
    return checks + [_decoder(name, errors.get(name, ended or "was not tried"), chosen) for name in DECODER_PACKAGES]


def _decoder(name: str, error: str, chosen: str) -> Check:
    package = DECODER_PACKAGES[name]
    needed = name == chosen
    if version(package) is None:
        mend = f"pip install {package}" if name == "pyav" else "pip install -e '.[decoders]'"
        return Check("decoders", name, "broken" if needed else "absent", "not installed", mend)
    if error:
        return Check("decoders", name, "broken" if needed else "warning", error, mend_import(package, error))
    return Check("decoders", name, "ok", "a clip's pictures and sound came back as they were written")
