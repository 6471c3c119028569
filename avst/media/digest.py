"""The digest of a file's bytes: what a cached clip, and a clip's features, are known by, wherever the file lies."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

from avst.bounded_folder import LOST_PART_S
from avst.media.paths import check_file
from avst.media.settings import MediaError

BLOCK = 1 << 20
_known: dict[tuple[str, str], str] = {}
_lock = threading.Lock()


def content_digest(path: str | Path, memo_dir: Path | None = None) -> str:
    """blake2b of the file's bytes, 32 hex digits.

    Remembered by path, size, times and inode, in this process and (with `memo_dir`) on disk, so that each new loader
    process need not read every video again. MediaError for a file that cannot be read.
    """
    whole = os.path.abspath(path)
    stamp = file_stamp(path)
    known = _known.get((whole, stamp))
    if known is not None:
        return known
    memo = None
    if memo_dir is not None:
        memo = memo_dir / f"{hashlib.blake2b(os.fsencode(whole), digest_size=16).hexdigest()}.json"
        known = _recall(memo, stamp)
    if known is None:
        known = _hash(path)
        if file_stamp(path) != stamp:
            raise MediaError(f"{path}: the file changed while it was being read")
        if memo is not None:
            _remember(memo, stamp, known)
    with _lock:
        _known[whole, stamp] = known
    return known


def file_stamp(path: str | Path) -> str:
    """What changes whenever the file does: size, modification and status time, inode."""
    found = check_file(path)
    return f"{found.st_size}:{found.st_mtime_ns}:{found.st_ctime_ns}:{found.st_dev}:{found.st_ino}"


def _hash(path: str | Path) -> str:
    digest = hashlib.blake2b(digest_size=16)
    try:
        with open(path, "rb", buffering=0) as file:
            while block := file.read(BLOCK):
                digest.update(block)
    except OSError as error:
        raise MediaError(f"{path}: {error.strerror or error}") from error
    return digest.hexdigest()


def _recall(memo: Path, stamp: str) -> str | None:
    try:
        noted = json.loads(memo.read_text())
        digest = noted["digest"] if noted["stamp"] == stamp else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return digest if isinstance(digest, str) and len(digest) == 32 else None


@cache
def _clear_lost_parts(folder: Path) -> None:
    """Once in a process: what killed writers left behind goes, whichever way the clock has jumped since."""
    with suppress(OSError):
        for part in folder.glob("*.part"):
            with suppress(OSError):  # another process was quicker
                if abs(time.time() - part.stat().st_mtime) > LOST_PART_S:
                    part.unlink()


def _remember(memo: Path, stamp: str, digest: str) -> None:
    """Best effort: without the note the file is only hashed again."""
    _clear_lost_parts(memo.parent)
    part = memo.with_name(f"{memo.name}.{os.getpid()}.{threading.get_ident()}.part")
    try:
        memo.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps({"stamp": stamp, "digest": digest}))
        os.replace(part, memo)
    except OSError:
        part.unlink(missing_ok=True) if os.access(memo.parent, os.W_OK) else None
