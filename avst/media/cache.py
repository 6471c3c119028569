"""Decoded clips on disk: one file each, written atomically, mapped into memory when read, the least recently used go
first.

    <root>/clips/<2 digits>/<key>.clip       digests are noted in <root>/digests

A file is  magic | crc of the header | length of the header | header (JSON) | frames, page-aligned | audio. The key
is a digest of the video's bytes, the settings, the decoder's version and this format's. How several processes share
the folder and keep it below its bound is said in avst.bounded_folder.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import struct
import threading
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from avst.bounded_folder import BoundedFolder

FORMAT = 2
MAGIC = b"AVSTCLIP"
PREFIX = struct.Struct("<8sIQ")
PAGE = 4096


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
        self.folder = BoundedFolder(Path(root) / "clips", limit_bytes, ".clip", "clip cache", "clip")
        self.digests = Path(root) / "digests"

    def read(self, key: str) -> Entry | None:
        """The entry, its arrays mapped copy-on-write (writing to them never reaches the file); None if it is not there.

        A damaged file (short, or with a wrong checksum) counts as absent and is deleted.
        """
        path = self.folder.path(key)
        try:
            with path.open("rb") as file:
                entry = _load(file.fileno(), key)
                modified_ns = os.fstat(file.fileno()).st_mtime_ns
        except (FileNotFoundError, NotADirectoryError):
            _count(misses=1)
            return None
        except _Damaged:
            _count(misses=1, damaged=1)
            self.folder.drop(key)
            return None
        except OSError as error:
            self.folder.warn_once(
                "read", f"the clip cache {self.folder.root} cannot be read ({error.strerror}); decoding instead"
            )
            _count(misses=1)
            return None
        self.folder.mark_used(path, modified_ns)
        _count(hits=1)
        return entry

    def write(self, key: str, entry: Entry) -> None:
        """Store an entry for all processes to find whole, or not at all; then evict down to the limit."""
        header, frames_at, audio_at, size = _layout(key, entry)

        def payload(file: BinaryIO) -> None:
            file.write(header)
            file.seek(frames_at)
            file.write(np.ascontiguousarray(entry.frames).data)
            if entry.audio is not None:
                file.seek(audio_at)
                file.write(np.ascontiguousarray(entry.audio).data)
            file.truncate(size)

        evicted = self.folder.put(key, size, payload)
        if evicted is not None:
            _count(written=1, evicted=evicted)


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
        its_key, its_crc, meta = header["key"], header["crc"], header["meta"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise _Damaged from error
    frames_at = -(-(PREFIX.size + length) // PAGE) * PAGE
    audio_at = -(-(frames_at + n_frames) // 64) * 64
    if its_key != key or found.st_size != audio_at + 4 * n_audio:
        raise _Damaged
    stamp = (key, found.st_mtime_ns, found.st_size)
    if stamp not in _checked:
        view = memoryview(data)
        crc = zlib.crc32(view[audio_at:], zlib.crc32(view[frames_at : frames_at + n_frames]))
        if crc != its_crc:
            raise _Damaged
        _checked.add(stamp)
    frames = np.frombuffer(data, np.uint8, n_frames, frames_at).reshape(header["frames"])
    audio = None
    if header["audio"] is not None:
        audio = np.frombuffer(data, np.float32, n_audio, audio_at).reshape(header["audio"])
    return Entry(frames, audio, meta)


def _count(**more: int) -> None:
    global _stats
    with _lock:
        _stats = replace(_stats, **{name: getattr(_stats, name) + n for name, n in more.items()})
