"""Checkpoints that are whole or are not there: written aside, synced, listed with sizes and hashes, then renamed.

.saving/checkpoint-50   being written; what a crash leaves of it is never taken for a checkpoint
checkpoint-50/          the Trainer's files, and manifest.json, which was written last
"""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avst.durable import file_digest, json_safe, write_atomically
from avst.errors import AvstError

logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"
SAVING = ".saving"  # beside the checkpoints, so that a rename is enough
REPLACED = ".replaced-"
VERSION = 1


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """step: optimizer steps that it holds;  path: its folder;  problems: why it cannot be gone on from, () where it is
    whole.

    Example: Checkpoint(50, Path("runs/a/checkpoint-50"), ("model.safetensors has 10 bytes of 5580144",)).
    """

    step: int
    path: Path
    problems: tuple[str, ...] = ()

    @property
    def whole(self) -> bool:
        return not self.problems


def seal(folder: Path, about: Mapping[str, Any]) -> None:
    """List all files below `folder` with sizes and hashes in its manifest, after all of them are on the disk.

    about: what the checkpoint belongs to (recipe, data, processes), kept in the manifest. Raises OSError.
    """
    files = _files(folder)
    with ThreadPoolExecutor(4) as pool:  # hashing and syncing let go of the interpreter
        digests = list(pool.map(_synced_digest, files))
    listed = {
        file.relative_to(folder).as_posix(): {"bytes": file.stat().st_size, "hash": digest}
        for file, digest in zip(files, digests, strict=True)
    }
    manifest = {"version": VERSION, "about": about, "files": listed}
    write_atomically(folder / MANIFEST, json.dumps(json_safe(manifest), indent=1, ensure_ascii=False) + "\n")
    for path in [folder, *(p for p in folder.rglob("*") if p.is_dir())]:
        sync_folder(path)


def publish(written: Path, place: Path) -> None:
    """Give a sealed folder its name. One of that name, from a run that went on from an earlier step, is replaced."""
    old = place.with_name(REPLACED + place.name)
    shutil.rmtree(old, ignore_errors=True)
    if place.exists():
        place.rename(old)
    written.rename(place)
    sync_folder(place.parent)
    shutil.rmtree(old, ignore_errors=True)


def problems(folder: Path, hashes: bool = True) -> list[str]:
    """What is wrong with a checkpoint, [] where it is whole. hashes: read all of it; without, sizes alone are compared.

    Example: ["optimizer.pt is not there"].
    """
    manifest = read_manifest(folder)
    if manifest is None:
        return [f"it has no {MANIFEST} that can be read: it was not written to its end, or not by this version"]
    found: list[str] = []
    intact: list[tuple[str, str]] = []
    for name, entry in manifest["files"].items():
        try:
            size = (folder / name).stat().st_size
        except OSError:
            found.append(f"{name} is not there")
            continue
        if size != entry["bytes"]:
            found.append(f"{name} has {size} bytes of {entry['bytes']}")
        else:
            intact.append((name, entry["hash"]))
    if hashes:
        with ThreadPoolExecutor(4) as pool:
            wrong = pool.map(lambda pair: _damage(folder / pair[0], pair[1]), intact)
            found += [f"{name} {what}" for (name, _), what in zip(intact, wrong, strict=True) if what]
    return found


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """None where there is none, or none that can be trusted to name files below the folder."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        files = manifest["files"]
        sound = manifest["version"] == VERSION and isinstance(manifest["about"], dict) and bool(files)
        for name, entry in files.items():
            sound &= isinstance(entry["bytes"], int) and isinstance(entry["hash"], str)
            sound &= not Path(name).is_absolute() and ".." not in Path(name).parts
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return manifest if sound else None


def found_in(run: Path, hashes: bool = False) -> list[Checkpoint]:
    """The checkpoints of a run, the earliest first, each with its problems."""
    found = []
    for path in run.glob("checkpoint-*"):
        step = path.name.rpartition("-")[2]
        if step.isdecimal() and path.is_dir() and not path.is_symlink():
            found.append(Checkpoint(int(step), path, tuple(problems(path, hashes))))
    return sorted(found, key=lambda checkpoint: checkpoint.step)


def newest_whole(run: Path) -> Path | None:
    """The newest checkpoint that is whole, by its hashes. Newer ones that are not are named in a warning, and left."""
    for checkpoint in reversed(found_in(run)):
        wrong = list(checkpoint.problems) or problems(checkpoint.path)
        if not wrong:
            return checkpoint.path
        logger.warning("%s is not whole and is left alone: %s", checkpoint.path, "; ".join(wrong[:3]))
    return None


def thin_out(run: Path, keep: int | None, best: str | Path | None = None) -> None:
    """Delete the oldest whole checkpoints but `keep` (None or 0: none), and never `best`. Those that are not whole are
    left alone, and do not count: the last one that can be gone on from is never deleted."""
    if not keep or keep < 0:
        return
    whole = [checkpoint for checkpoint in found_in(run) if checkpoint.whole]
    for checkpoint in whole[:-keep]:
        if best is None or checkpoint.path.resolve() != Path(best).resolve():
            shutil.rmtree(checkpoint.path, ignore_errors=True)


def make_room(run: Path, needed: int) -> None:
    """Raises AvstError where a checkpoint of `needed` bytes does not fit beside what is there."""
    free = shutil.disk_usage(run).free
    if free < needed:
        raise AvstError(no_space(run, needed, free))


def no_space(run: Path, needed: int, free: int) -> str:
    kept = [checkpoint.path.name for checkpoint in found_in(run) if checkpoint.whole]
    last = f"{kept[-1]} is kept" if kept else "there is no earlier checkpoint"
    return (
        f"{run}: the disk is full: a checkpoint takes {_size(needed)}, {_size(free)} are free, {_size(needed - free)} "
        f"are missing; {last}. Make room and `avst resume {run}`"
    )


def is_full(error: BaseException) -> bool:
    """Whether the disk is full: as an OSError, or in the words of what hides one (torch.save, safetensors)."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, OSError) and found.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if any(words in str(found) for words in ("No space left", "Disk quota", "unexpected pos")):
            return True
        found = found.__cause__ or found.__context__
    return False


def sync_folder(folder: Path) -> None:
    """A rename or a new file is on the disk when its folder is."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF, errno.ENOTSUP):  # file systems that cannot sync folders
            raise
    finally:
        os.close(handle)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)


def _synced_digest(file: Path) -> str:
    with file.open("rb") as stream:
        os.fsync(stream.fileno())
    return file_digest(file)


def _damage(file: Path, known: str) -> str:
    """What is wrong with a file's content, "" where it is the one that was written."""
    try:
        return "" if file_digest(file) == known else "has other content than was written"
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e7 else f"{count / 1e6:.2f} MB"
