"""The messages between a process and its decoding worker: a JSON header, then raw bytes. Nothing is ever unpickled.

    4 bytes   length of the header, little endian
    header    UTF-8 JSON object; its "bytes" says how long the payload is (0 if left out)
    payload   raw bytes (a frame, audio samples)

A request is one message {"op": "probe" | "decode", "path": …, …}. A reply is a run of messages, each with a "kind":
"begun", then "info" (probe's answer), or "clip" (the shapes to come), "frame" (T of them, in order) and "audio", and
last "done"; or "error" at any place, with "message".
"""

from __future__ import annotations

import json
import struct
from typing import Any, BinaryIO

LENGTH = struct.Struct("<I")
MAX_HEADER = 1 << 20


def pack(header: dict[str, Any]) -> bytes:
    """The length and the header as bytes; the caller writes `header["bytes"]` bytes of payload behind them."""
    text = json.dumps(header).encode()
    return LENGTH.pack(len(text)) + text


def header_length(prefix: bytes) -> int:
    """Length of the header that follows. Raises ValueError for one that no worker writes."""
    (length,) = LENGTH.unpack(prefix)
    if length > MAX_HEADER:
        raise ValueError(f"a message header of {length} bytes")
    return int(length)


def read_message(stream: BinaryIO) -> dict[str, Any] | None:
    """The next message without payload from a blocking stream; None at its end. Raises EOFError in the middle of
    one.
    """
    prefix = stream.read(LENGTH.size)
    if not prefix:
        return None
    if len(prefix) < LENGTH.size:
        raise EOFError("the stream ended inside a message")
    length = header_length(prefix)
    text = stream.read(length)
    if len(text) < length:
        raise EOFError("the stream ended inside a message")
    header: dict[str, Any] = json.loads(text)
    return header
