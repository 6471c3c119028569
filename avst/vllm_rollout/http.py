"""JSON over HTTP with a deadline; whatever goes wrong is one line that names the address.

A socket's time-out is one of silence: it starts anew with every byte. The body is therefore read in pieces by the
clock. Connecting and the headers, which the library reads by itself, are bounded by silence alone.
"""

from __future__ import annotations

import http.client
import json
import time
from ipaddress import ip_address
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, Request, build_opener

from avst.errors import AvstError

SAID_AT_MOST = 300  # characters of a server's own words in a message
MOST_BYTES = 1 << 28  # of an answer; a million tokens with their log-probs take about 100 MB
PIECE = 1 << 16  # bytes of the body read at a time


class Http:
    """A server at `base_url`. It may be silent for `deadline_s` seconds, and no more of a body is read once they have
    passed since the request."""

    def __init__(self, base_url: str, deadline_s: float) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise AvstError(f"vllm_server_base_url: {base_url!r} is no http address, such as http://localhost:8000")
        if parts.username or parts.password:
            raise AvstError("vllm_server_base_url: no user or password in it: the address stands in messages and logs")
        self.base_url, self.deadline_s = base_url.rstrip("/"), deadline_s
        # a proxy of the environment stands between this machine and the world, not between it and itself
        self.opener = build_opener(ProxyHandler({})) if _is_here(parts.hostname) else build_opener()

    def get(self, path: str, deadline_s: float | None = None) -> Any:
        return self._send(Request(self.base_url + path), path, deadline_s)  # noqa: S310 - the scheme is checked above

    def post(self, path: str, body: dict[str, Any]) -> Any:
        data = json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        return self._send(Request(self.base_url + path, data, headers), path, None)  # noqa: S310 - as above

    def wait(self, path: str, seconds: float, every_s: float = 1.0) -> None:
        """Until `path` answers; AvstError if it does not within `seconds`."""
        end = time.monotonic() + seconds
        while True:
            try:
                self.get(path, deadline_s=max(0.1, min(self.deadline_s, end - time.monotonic())))
                return
            except AvstError as error:
                if time.monotonic() + every_s >= end:
                    raise AvstError(
                        f"no vLLM server after vllm_server_timeout={seconds:g} s ({error}); start one, see "
                        "docs/training.md, vLLM"
                    ) from error
            time.sleep(every_s)

    def _send(self, request: Request, path: str, deadline_s: float | None) -> Any:
        deadline_s = deadline_s or self.deadline_s
        where = f"vLLM server {self.base_url}{path}"
        try:
            status, text = self._answer(request, deadline_s, where)
        except TimeoutError as error:
            raise AvstError(f"{where} did not answer within {deadline_s:g} s") from error
        except (URLError, http.client.HTTPException, OSError) as error:
            reason = getattr(error, "reason", error)
            if isinstance(reason, TimeoutError):
                raise AvstError(f"{where} did not answer within {deadline_s:g} s") from error
            raise AvstError(f"{where} cannot be reached: {str(reason) or type(reason).__name__}") from error
        if status >= 400:
            raise AvstError(f"{where} answered {status}: {_words(text)}")
        try:
            return json.loads(text) if text.strip() else None
        except ValueError as error:
            raise AvstError(f"{where} did not answer in JSON: {_words(text)}") from error

    def _answer(self, request: Request, deadline_s: float, where: str) -> tuple[int, bytes]:
        """(status, body). TimeoutError once `deadline_s` are over."""
        end = time.monotonic() + deadline_s
        response: Any
        try:
            response = self.opener.open(request, timeout=deadline_s)
        except HTTPError as error:
            response = error  # an answer as well
        found = bytearray()
        with response:
            while time.monotonic() < end:
                piece = response.read1(PIECE)
                found += piece
                if len(found) > MOST_BYTES:
                    raise AvstError(f"{where} answered more than {MOST_BYTES >> 20} MiB")
                if not piece:
                    break
            else:
                raise TimeoutError
            if response.length:  # read1, unlike read, says nothing of a body that breaks off
                raise http.client.IncompleteRead(bytes(found), response.length)
            return response.status, bytes(found)


def _words(body: bytes) -> str:
    """What a server says of its error, in one line: the message of vLLM's JSON, or the last line of a traceback."""
    text = body.decode(errors="replace").strip()
    try:
        said = json.loads(text)
        error = said.get("error", said.get("detail", said)) if isinstance(said, dict) else said
        text = str(error.get("message", error) if isinstance(error, dict) else error)
    except ValueError:
        pass
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ["nothing"]
    shown = lines[-1] if lines[0].startswith("Traceback") else " ".join(lines)
    shown = "".join(letter if letter.isprintable() else " " for letter in shown)
    return shown if len(shown) <= SAID_AT_MOST else shown[: SAID_AT_MOST - 1] + "…"


def _is_here(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified  # the latter is what TRL's option says by default
