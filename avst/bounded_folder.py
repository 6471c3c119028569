"""A folder of files that several processes fill, read and keep below a size: the least recently used go first.

    <root>/<first 2 characters of the key>/<key><suffix>

A file appears whole or not at all (written beside its place, then renamed). Readers need no lock: a file that is
replaced or evicted stays whole for whoever has it open. Use is kept in the files' access time, set on every hit.
Nothing that goes wrong here ends a run: it warns once and goes on. Clocks may jump: a time in the future says nothing
of a file's use, so such files go first, and lost parts go whatever their time.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

LOST_PART_S = 3600.0
log = logging.getLogger(__name__)
warned: set[tuple[str, str]] = set()  # (name of the folder's kind, kind of trouble) of what this process has said


@dataclass(frozen=True, slots=True)
class BoundedFolder:
    """At most `limit_bytes` under `root`.

    suffix: of the files (".clip");  name, entry: what to call the folder and a file of it in warnings ("clip cache",
    "clip").
    """

    root: Path
    limit_bytes: int
    suffix: str
    name: str
    entry: str

    def path(self, key: str) -> Path:
        return self.root / key[:2] / f"{key}{self.suffix}"

    def mark_used(self, path: Path, modified_ns: int) -> None:
        """modified_ns: the file's modification time, which stays."""
        with contextlib.suppress(
            OSError
        ):  # evicted just now, or a folder that may only be read: it serves all the same
            os.utime(path, ns=(time.time_ns(), modified_ns))

    def drop(self, key: str) -> None:
        """Delete a damaged file, where that is allowed."""
        with contextlib.suppress(OSError):
            self.path(key).unlink()

    def put(self, key: str, size: int, write: Callable[[BinaryIO], object]) -> int | None:
        """Store what `write` writes (`size` bytes), then evict down to the limit; how many files were evicted, None
        where the file could not be kept."""
        if size > self.limit_bytes:
            self.warn_once(
                "large", f"a {self.entry} of {size / 1e9:.2f} GB is larger than the whole {self.name}; not kept"
            )
            return None
        path = self.path(key)
        part = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                write(file)
            now = time.time_ns()  # finer than the file system's own clock, as on a hit
            os.utime(part, ns=(now, now))
            os.replace(part, path)
            return self._evict(keep=path)
        except OSError as error:
            with contextlib.suppress(OSError):
                part.unlink()
            self.warn_once("write", f"the {self.name} {self.root} cannot be written ({error.strerror}); going on")
            return None

    def warn_once(self, kind: str, message: str) -> None:
        if (self.name, kind) not in warned:
            warned.add((self.name, kind))
            log.warning("%s", message)

    def _evict(self, keep: Path) -> int:
        """Delete the least recently used files until the rest fits. One process at a time; the others wait their turn,
        or go on where the file system knows no locks."""
        import fcntl

        evicted, now_s = 0, time.time()
        with (self.root / "evict.lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
            except OSError:
                return 0
            entries, total = [], 0
            for path, found in self._files():
                if path.name.endswith(".part") and abs(now_s - found.st_mtime) > LOST_PART_S:
                    path.unlink(missing_ok=True)  # its writer was killed
                elif path.name.endswith(self.suffix):
                    known = found.st_atime <= now_s + LOST_PART_S  # else set by a clock that was wrong
                    entries.append((known, found.st_atime_ns, found.st_size, path))
                    total += found.st_size
            for _, _, size, path in sorted(entries):
                if total <= self.limit_bytes:
                    break
                if path != keep:
                    path.unlink(missing_ok=True)
                    total -= size
                    evicted += 1
        return evicted

    def _files(self) -> Iterator[tuple[Path, os.stat_result]]:
        for folder in os.scandir(self.root):
            if folder.is_dir():
                for file in os.scandir(folder.path):
                    with contextlib.suppress(FileNotFoundError):  # evicted or renamed by another process just now
                        yield Path(file.path), file.stat()
