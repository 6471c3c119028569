"""Opening a file with PyAV, so that it can be nothing but a video: no playlist, no pipe, no other file behind it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av

from avst.media.paths import check_file
from avst.media.settings import MediaError

# Containers that hold pictures and sound. Playlists and scripts (hls, concat, dash …) are left out on purpose: they
# would open other files of this machine, or of the network, on behalf of a file that only calls itself .mp4.
FORMATS = "mov,matroska,avi,mpegts,mpeg,mpegvideo,flv,ogg,asf,gif,apng,nut,mxf,rm,h264,hevc,m4v,ivf,wav,mp3,aac,flac"


@contextmanager
def open_media(path: str | Path) -> Iterator[Any]:
    """Open a file with PyAV for reading; errors name the file and what is wrong with it."""
    check_file(path)
    options = {"format_whitelist": FORMATS, "protocol_whitelist": "file"}
    try:
        container = av.open(os.fspath(path), container_options=options, metadata_errors="replace")
    except (av.FFmpegError, ValueError) as error:
        raise MediaError(f"{path}: {_why_not_opened(path, error)}") from error
    with container:
        yield container


def _why_not_opened(path: str | Path, error: Exception) -> str:
    with open(path, "rb") as file:
        head = file.read(512)
    if not head.strip(b"\0"):
        return "not a video: it begins with nothing but zero bytes"
    if b"\0" not in head and all(byte >= 32 or byte in b"\t\n\r\f" for byte in head):
        return "a text file, not a video"
    if isinstance(error, av.FFmpegError) and not isinstance(error, av.InvalidDataError | av.ArgumentError):
        return f"cannot be opened: {error.strerror}"
    return "not a video file, or its header is damaged or missing"
