"""A report over HTTP, for a browser on another machine (ssh -L). Bound to loopback; with ranges, because a browser
seeks in a video by asking for a part of it, which http.server cannot give.

What is served: the files below the report, and the linked videos that report.json names, under media/. A path that
leads out of the report is refused, by `..` or by a symbolic link; so is a request whose Host is another name than
loopback's, by which a web page elsewhere could read along (DNS rebinding).
"""

from __future__ import annotations

import getpass
import mimetypes
import os
import re
import socket
from collections.abc import Callable
from email.utils import formatdate
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit

from avst.errors import AvstError
from avst.media.paths import ENDINGS
from avst.report.write import read_mark

HOST = "127.0.0.1"
HOSTS = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?", re.IGNORECASE)
CHUNK = 1 << 16
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".json": "application/json",
    ".mp4": "video/mp4",
    ".m4v": "video/mp4",
    ".mov": "video/quicktime",
    ".webm": "video/webm",
}
HEADERS = {
    "Accept-Ranges": "bytes",
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def serve(folder: str | Path, port: int, say: Callable[[str], None] = print) -> None:
    """Serve a report until Ctrl-C. Raises AvstError where there is none or the port is taken."""
    with make_server(folder, port) as server:
        at = server.server_address[1]
        say(f"serving http://{HOST}:{at}/  (Ctrl-C ends it)")
        say(f"from another machine: ssh -L {at}:{HOST}:{at} {_who()}  and then open http://localhost:{at}/")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            say("")


def make_server(folder: str | Path, port: int) -> ThreadingHTTPServer:
    """The server, bound but not yet serving. port: 0 takes a free one."""
    folder = Path(folder)
    mark = read_mark(folder)
    if mark is None:
        raise AvstError(f"{folder}: no report there; `avst report RUN` makes one")
    linked = mark.get("linked")
    known = {str(k): Path(str(v)) for k, v in linked.items()} if isinstance(linked, dict) else {}
    try:
        return ThreadingHTTPServer((HOST, port), partial(Handler, folder.resolve(), known))
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        raise AvstError(f"--port {port}: cannot be served there: {why}; --port 0 takes a free one") from error


def find(root: Path, linked: dict[str, Path], url_path: str) -> Path | None:
    """The file of a request, None where there is none or it may not be given.

    root: the report, resolved;  linked: URL path without its first slash -> a video elsewhere.
    """
    path = unquote(url_path, errors="strict").removeprefix("/")
    parts = (path or "index.html").split("/")
    if any(part in ("", ".", "..") or part.startswith(".") or "\\" in part or "\0" in part for part in parts):
        return None
    inside = root.joinpath(*parts)
    try:
        if os.path.lexists(inside):
            real = inside.resolve(strict=True)
            return real if real.is_relative_to(root) and real.is_file() else None
        outside = linked.get("/".join(parts))
        if outside is None or outside.suffix.lower() not in ENDINGS:  # whoever wrote report.json: videos, nothing else
            return None
        real = outside.resolve(strict=True)
        return real if real == outside and real.is_file() else None
    except (OSError, RuntimeError, ValueError):
        return None


def byte_range(header: str | None, size: int) -> tuple[int, int] | bool | None:
    """(first, last) byte of a Range header, last included; None: the whole file (no header, several ranges, or one
    that makes no sense); False: it asks for what is not there (416). RFC 9110, 14.1.2."""
    found = re.fullmatch(r"bytes=\s*(\d*)-(\d*)\s*", header or "", re.ASCII | re.IGNORECASE)
    if found is None or len(found[0]) > 60 or found[1] == found[2] == "":
        return None
    if found[1] == "":
        n = int(found[2])
        return (max(size - n, 0), size - 1) if n and size else False
    first = int(found[1])
    last = min(int(found[2]), size - 1) if found[2] else size - 1
    if found[2] and int(found[2]) < first:
        return None
    return (first, last) if first < size else False


class Handler(BaseHTTPRequestHandler):
    """GET and HEAD of the files of one report."""

    protocol_version = "HTTP/1.1"
    server_version = "avst"
    sys_version = ""
    timeout = 60

    def __init__(self, root: Path, linked: dict[str, Path], *args: Any) -> None:
        self.root, self.linked = root, linked
        super().__init__(*args)

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: hundreds of ranges would scroll the address away."""

    def _answer(self, body: bool) -> None:
        if not HOSTS.fullmatch(self.headers.get("Host", "")):
            self._say(HTTPStatus.MISDIRECTED_REQUEST)
            return
        try:
            path = find(self.root, self.linked, urlsplit(self.path).path)
        except (UnicodeDecodeError, ValueError):
            path = None
        if path is None:
            self._say(HTTPStatus.NOT_FOUND)
            return
        try:
            with path.open("rb") as file:
                self._file(file, path.suffix.lower(), body)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # browsers let go of a video that they have seen enough of
        except OSError:
            self._say(HTTPStatus.NOT_FOUND)

    def _file(self, file: BinaryIO, ending: str, body: bool) -> None:
        stat = os.fstat(file.fileno())
        tag = f'"{stat.st_size:x}-{stat.st_mtime_ns:x}"'
        wanted: tuple[int, int] | bool | None = None
        if body and self.headers.get("If-Range", tag) == tag:  # a range means nothing to HEAD
            wanted = byte_range(self.headers.get("Range"), stat.st_size)
        if wanted is False:
            self._say(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, {"Content-Range": f"bytes */{stat.st_size}"})
            return
        first, last = wanted if isinstance(wanted, tuple) else (0, stat.st_size - 1)
        self.send_response(HTTPStatus.OK if wanted is None else HTTPStatus.PARTIAL_CONTENT)
        if wanted is not None:
            self.send_header("Content-Range", f"bytes {first}-{last}/{stat.st_size}")
        known = TYPES.get(ending) or mimetypes.types_map.get(ending, "application/octet-stream")
        self._headers({"Content-Type": known, "Content-Length": str(last - first + 1), "ETag": tag})
        self.send_header("Last-Modified", formatdate(stat.st_mtime, usegmt=True))
        self.end_headers()
        if body:
            file.seek(first)
            self._send(file, last - first + 1)

    def _send(self, file: BinaryIO, left: int) -> None:
        while left > 0:
            piece = file.read(min(CHUNK, left))
            if not piece:  # the file became shorter: the promised length cannot be kept
                self.close_connection = True
                return
            self.wfile.write(piece)
            left -= len(piece)

    def _say(self, status: HTTPStatus, extra: dict[str, str] | None = None) -> None:
        text = f"{status.value} {status.phrase}\n".encode()
        self.send_response(status)
        self._headers({"Content-Type": "text/plain; charset=utf-8", "Content-Length": str(len(text)), **(extra or {})})
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    def _headers(self, own: dict[str, str]) -> None:
        for name, value in (own | HEADERS).items():
            self.send_header(name, value)


def _who() -> str:
    """user@host, as far as this machine knows its own name."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "USER"
    return f"{user}@{socket.gethostname() or 'HOST'}"
