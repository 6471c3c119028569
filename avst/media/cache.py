"""Decoded clips on disk: one file each, written atomically, mapped into memory when read, the least recently used go
first.

    <root>/clips/<2 digits>/<key>.clip       digests are noted in <root>/digests

A file is  magic | crc of the header | length of the header | header (JSON) | frames, page-aligned | audio. The key
is a digest of the video's bytes, the settings, the decoder's version and this format's. Readers need no lock: a file
that is replaced or evicted stays whole for whoever has it open. Use is kept in the files' access time, set on every
hit.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import mmap
import os
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

FORMAT = 1
MAGIC = b"AVSTCLIP"
PREFIX = struct.Struct("<8sIQ")
PAGE = 4096
LOST_PART_S = 3600.0
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CacheStats:
    """What this process's caches did since it began (a forked child counts on from its parent's figures)."""

    hits: int = 0
    misses: int = 0
    damaged: int = 0
    written: int = 0
    evicted: int = 0


_stats = CacheStats()
_checked: set[tuple[str, int, int]] = set()  # (key, mtime_ns, size) of files whose checksum this process has verified
_warned: set[str] = set()
_lock = threading.Lock()


def cache_stats() -> CacheStats:
    """Hits, misses, damaged entries found, entries written and evicted by this process."""
    return _stats


@dataclass(frozen=True, slots=True)
class Entry:
    """What is kept of a clip. frames: uint8 (T, H, W, 3); audio: float32 (N,), (channels, N) or None; meta: JSON
    values.
    """

    frames: np.ndarray
    audio: np.ndarray | None
    meta: dict[str, Any]


class ClipCache:
    """A cache folder of at most `limit_bytes`. Nothing that goes wrong in it ends a run: it warns once and goes on."""

    def __init__(self, root: str | Path, limit_bytes: int) -> None:
        self.clips, self.limit_bytes = Path(root) / "clips", limit_bytes
        self.digests = Path(root) / "digests"

    def read(self, key: str) -> Entry | None:
        """The entry, its arrays mapped copy-on-write (writing to them never reaches the file); None if it is not there.

        A damaged file (short, or with a wrong checksum) counts as absent and is deleted.
        """
        path = self._path(key)
        try:
            with path.open("rb") as file:
                entry = _load(file.fileno(), key)
                used = (time.time_ns(), os.fstat(file.fileno()).st_mtime_ns)
        except (FileNotFoundError, NotADirectoryError):
            _count(misses=1)
            return None
        except _Damaged:
            _count(misses=1, damaged=1)
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        except OSError as error:
            _warn_once("read", f"the clip cache {self.clips} cannot be read ({error.strerror}); decoding instead")
            _count(misses=1)
            return None
        with contextlib.suppress(OSError):  # evicted just now, or a cache that may only be read: it serves all the same
            os.utime(path, ns=used)
        _count(hits=1)
        return entry

    def write(self, key: str, entry: Entry) -> None:
        """Store an entry for all processes to find whole, or not at all; then evict down to the limit."""
        header, frames_at, audio_at, size = _layout(key, entry)
        if size > self.limit_bytes:
            _warn_once("large", f"a clip of {size / 1e9:.2f} GB is larger than the whole clip cache; not kept")
            return
        path = self._path(key)
        part = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                file.write(header)
                file.seek(frames_at)
                file.write(np.ascontiguousarray(entry.frames).data)
                if entry.audio is not None:
                    file.seek(audio_at)
                    file.write(np.ascontiguousarray(entry.audio).data)
                file.truncate(size)
            now = time.time_ns()  # finer than the file system's own clock, as on a hit
            os.utime(part, ns=(now, now))
            os.replace(part, path)
            _count(written=1)
            self._evict(keep=path)
        except OSError as error:
            with contextlib.suppress(OSError):
                part.unlink()
            _warn_once("write", f"the clip cache {self.clips} cannot be written ({error.strerror}); going on")

    def _path(self, key: str) -> Path:
        return self.clips / key[:2] / f"{key}.clip"

    def _evict(self, keep: Path) -> None:
        """Delete the least recently used entries until the rest fits. One process at a time; the others go on."""
        import fcntl

        with (self.clips / "evict.lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
            except OSError:
                return
            entries, total = [], 0
            for path, found in _files(self.clips):
                if path.name.endswith(".part") and time.time() - found.st_mtime > LOST_PART_S:
                    path.unlink(missing_ok=True)  # its writer was killed
                elif path.name.endswith(".clip"):
                    entries.append((found.st_atime_ns, found.st_size, path))
                    total += found.st_size
            for _, size, path in sorted(entries):
                if total <= self.limit_bytes:
                    break
                if path != keep:
                    path.unlink(missing_ok=True)
                    total -= size
                    _count(evicted=1)


def _files(clips: Path) -> Iterator[tuple[Path, os.stat_result]]:
    for folder in os.scandir(clips):
        if folder.is_dir():
            for file in os.scandir(folder.path):
                with contextlib.suppress(FileNotFoundError):  # evicted or renamed by another process just now
                    yield Path(file.path), file.stat()


class _Damaged(Exception):
    """The file is not what was written."""


def _layout(key: str, entry: Entry) -> tuple[bytes, int, int, int]:
    """(prefix and header, offset of the frames, offset of the audio, size of the file)."""
    audio = entry.audio
    crc = zlib.crc32(np.ascontiguousarray(entry.frames).data.cast("B") if entry.frames.size else b"")
    if audio is not None and audio.size:
        crc = zlib.crc32(np.ascontiguousarray(audio).data.cast("B"), crc)
    header = json.dumps(
        {
            "key": key,
            "frames": list(entry.frames.shape),
            "audio": None if audio is None else list(audio.shape),
            "crc": crc,
            "meta": entry.meta,
        }
    ).encode()
    frames_at = -(-(PREFIX.size + len(header)) // PAGE) * PAGE
    audio_at = -(-(frames_at + entry.frames.nbytes) // 64) * 64
    size = audio_at + (0 if audio is None else audio.nbytes)
    return PREFIX.pack(MAGIC, zlib.crc32(header), len(header)) + header, frames_at, audio_at, size


def _load(fd: int, key: str) -> Entry:
    """The entry in an open file. Raises _Damaged. The payload's checksum is verified once a process."""
    found = os.fstat(fd)
    if found.st_size < PREFIX.size:
        raise _Damaged
    data = mmap.mmap(fd, 0, access=mmap.ACCESS_COPY)
    magic, header_crc, length = PREFIX.unpack_from(data)
    if magic != MAGIC or length > found.st_size - PREFIX.size:
        raise _Damaged
    text = data[PREFIX.size : PREFIX.size + length]
    if zlib.crc32(text) != header_crc:
        raise _Damaged
    try:
        header = json.loads(text)
        n_frames = math.prod(header["frames"])
        n_audio = 0 if header["audio"] is None else math.prod(header["audio"])
    except (ValueError, TypeError, KeyError) as error:
        raise _Damaged from error
    frames_at = -(-(PREFIX.size + length) // PAGE) * PAGE
    audio_at = -(-(frames_at + n_frames) // 64) * 64
    if header["key"] != key or found.st_size != audio_at + 4 * n_audio:
        raise _Damaged
    stamp = (key, found.st_mtime_ns, found.st_size)
    if stamp not in _checked:
        view = memoryview(data)
        crc = zlib.crc32(view[audio_at:], zlib.crc32(view[frames_at : frames_at + n_frames]))
        if crc != header["crc"]:
            raise _Damaged
        _checked.add(stamp)
    frames = np.frombuffer(data, np.uint8, n_frames, frames_at).reshape(header["frames"])
    audio = None
    if header["audio"] is not None:
        audio = np.frombuffer(data, np.float32, n_audio, audio_at).reshape(header["audio"])
    return Entry(frames, audio, header["meta"])


def _count(**more: int) -> None:
    global _stats
    with _lock:
        _stats = replace(_stats, **{name: getattr(_stats, name) + n for name, n in more.items()})


def _warn_once(kind: str, message: str) -> None:
    if kind not in _warned:
        _warned.add(kind)
        log.warning("%s", message)
