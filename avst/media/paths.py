"""From a video's name in an annotation file to a file in the videos folder, and never to a file outside of it.

Also the checks of a file that come before any decoder sees it.
"""

from __future__ import annotations

import os
import stat
import unicodedata
from pathlib import Path

from avst.media.settings import MediaError

# .mp4 first (the data's own), then what downloaders write.
ENDINGS = (".mp4", ".mkv", ".webm", ".mov", ".avi", ".m4v", ".mpg", ".mpeg", ".ts", ".flv", ".wmv", ".ogv", ".3gp")


def video_path(videos_dir: str | Path, name: str) -> Path:
    """The file `<videos_dir>/<name>.mp4`, or with another ending that is there.

    A name is one plain component: whatever could lead elsewhere (separators, `..`, an absolute path, NUL) is refused
    before anything is opened, and so is a link that leaves the folder.

    Raises MediaError naming the video: a refused name, no such file, or no ordinary file.
    """
    _refuse_bad_name(name)
    root = Path(videos_dir)
    try:
        real_root = root.resolve(strict=True)
    except OSError as error:
        raise MediaError(f"videos folder {root}: {error.strerror or error}") from error
    if not real_root.is_dir():
        raise MediaError(f"videos folder {root}: not a folder")
    found = _find(root, name)
    if found is None:
        raise MediaError(f"{root / (name + ENDINGS[0])}: no such video (nor with {', '.join(ENDINGS[1:])})")
    try:
        real = found.resolve(strict=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links, before Python 3.13
        raise MediaError(f"{found}: a link that leads nowhere") from error
    if not real.is_relative_to(real_root):
        raise MediaError(f"{found}: refused, a link that leads out of the videos folder")
    if not real.is_file():
        raise MediaError(f"{found}: not an ordinary file")
    return found


def check_file(path: str | Path) -> os.stat_result:
    """The file's stat. A missing, empty or unreadable file, or what is no ordinary file, is a MediaError."""
    try:
        found = os.stat(path)
    except OSError as error:
        raise MediaError(f"{path}: {error.strerror or error}") from error
    except ValueError as error:
        raise MediaError(f"{str(path)!r} is no file name: {error}") from error
    if not stat.S_ISREG(found.st_mode):
        raise MediaError(f"{path}: not an ordinary file")
    if found.st_size == 0:
        raise MediaError(f"{path}: the file is empty")
    if not os.access(path, os.R_OK):
        raise MediaError(f"{path}: no permission to read it")
    return found


def _refuse_bad_name(name: str) -> None:
    if not isinstance(name, str):
        raise MediaError(f"video name {name!r}: refused, not a string")
    if not name.strip():
        raise MediaError(f"video name {name!r}: refused, it is empty")
    if name in (".", "..") or "/" in name or "\\" in name or (os.altsep and os.altsep in name):
        raise MediaError(f"video name {name!r}: refused, it must be a plain name with no folder in it")
    if any(unicodedata.category(character) == "Cc" for character in name):
        raise MediaError(f"video name {name!r}: refused, it holds a control character")
    try:
        size = len(os.fsencode(name))
    except UnicodeEncodeError as error:
        raise MediaError(f"video name {name!r}: refused, it is not valid text") from error
    if size > 240:
        raise MediaError(f"video name {name[:40]!r}…: refused, {size} bytes are too long for a file name")


def _find(root: Path, name: str) -> Path | None:
    """The candidate that is there, .mp4 before the others, lower-case endings before upper-case ones."""
    for spelling in (str.lower, str.upper):
        for ending in ENDINGS:
            candidate = root / (name + spelling(ending))
            if os.path.lexists(candidate):
                return candidate
    named_whole = root / name  # "abc.mp4" in the annotations
    return named_whole if named_whole.suffix.lower() in ENDINGS and os.path.lexists(named_whole) else None
