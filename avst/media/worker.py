"""The decoding process: python -m avst.media.worker PARENT_PID. Reads requests on stdin, answers on stdout.

Decoders hang, leak and crash on bad files; in here they can be killed without harm to a training run. See
avst.media.protocol for the messages and avst.media.process for the other end.
"""

from __future__ import annotations

import dataclasses
import faulthandler
import os
import resource
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from avst.media import protocol
from avst.media.digest import file_stamp
from avst.media.settings import MediaError

if TYPE_CHECKING:
    from avst.media.scan import Scan

# The parent kills at the deadline; this much later a worker whose parent is gone ends itself.
GRACE_S = 5.0


def main() -> None:
    """Serve until stdin ends or the parent is gone."""
    parent = int(sys.argv[1])
    requests = os.fdopen(os.dup(0), "rb")
    replies = os.fdopen(os.dup(1), "wb", buffering=0)
    # Libraries that print, or read, must not reach the pipes.
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to act on: it may be saving a checkpoint
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    limit_gb = _bound_memory()
    threading.Thread(target=_leave_with_parent, args=(parent,), daemon=True).start()
    try:
        while (request := protocol.read_message(requests)) is not None:
            # A C thread that needs no GIL: it ends even a decoder that hangs while holding it.
            faulthandler.dump_traceback_later(float(request["deadline_s"]) + GRACE_S, exit=True)
            _serve(request, replies, limit_gb)
            faulthandler.cancel_dump_traceback_later()
    except (BrokenPipeError, EOFError):
        return  # the parent is gone


def _leave_with_parent(parent: int) -> None:
    """End this process when its parent has ended: siblings forked from it may hold the pipes open for ever."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(0)


def _bound_memory() -> float:
    """GB that this process may take: AVST_DECODER_MEMORY_GB, else half of the machine's, 16 at most.

    A file may ask for any amount. And where the machine runs short all the same, Linux is told to end decoders first,
    not the training, which loses more.
    """
    machine_gb = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
    limit_gb = float(os.environ.get("AVST_DECODER_MEMORY_GB") or min(16.0, machine_gb / 2))
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_DATA, (int(limit_gb * 1e9), resource.getrlimit(resource.RLIMIT_DATA)[1]))
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    return limit_gb


def _serve(request: dict[str, Any], replies: BinaryIO, limit_gb: float) -> None:
    path = str(request["path"])
    _send(replies, {"kind": "begun"})
    try:
        if request["op"] == "probe":
            _send(replies, {"kind": "info", "info": dataclasses.asdict(_scan(path).info)})
        else:
            _decode(request, path, replies)
        _send(replies, {"kind": "done"})
    except BrokenPipeError:
        raise
    except MediaError as error:
        _send(replies, {"kind": "error", "message": str(error)})
    except MemoryError:
        bound = f"the {limit_gb:.2g} GB of memory that a decoder may have (AVST_DECODER_MEMORY_GB)"
        _send(replies, {"kind": "error", "message": f"{path}: decoding takes more than {bound}"})
    except Exception as error:  # whatever a decoder throws is put down to the file; the worker lives on
        cause = f"{type(error).__name__}: {_line(error)}"
        _send(replies, {"kind": "error", "message": f"{path}: decoding failed ({cause})"})


def _decode(request: dict[str, Any], path: str, replies: BinaryIO) -> None:
    from avst.media.clock import PTS_SLACK_S, frame_clock
    from avst.media.decode import decoder
    from avst.media.holes import refuse_lost_frames, refuse_lost_sound

    decode_video, decode_audio = decoder(request["decoder"])
    found = _scan(path)
    info = found.info
    clock = frame_clock(info.video_end_s, request["fps"], request["max_frames"])
    width, height = request["size"] or (info.width, info.height)
    times = clock.times_s.tolist()
    refuse_lost_frames(path, found.lost_s, times, PTS_SLACK_S)
    if request["audio_rate"]:
        refuse_lost_sound(path, found.silent_s)
    shape = [len(times), height, width, 3]
    _send(
        replies,
        {"kind": "clip", "info": dataclasses.asdict(info), "times_s": times, "fps": clock.fps, "shape": shape},
    )
    for frame in decode_video(path, found, times, (width, height)):
        _send(replies, {"kind": "frame", "bytes": frame.nbytes}, frame.data)
    audio = decode_audio(path, found, request["audio_rate"], request["channels"]) if request["audio_rate"] else None
    if audio is not None:
        _send(replies, {"kind": "audio", "shape": list(audio.shape), "bytes": audio.nbytes}, audio.data)


_last: dict[tuple[str, str], Scan] = {}


def _scan(path: str) -> Scan:
    """What is in the file; a clip is probed and then decoded, and need be read through but once."""
    from avst.media.scan import scan

    key = (path, file_stamp(path))
    if key not in _last:
        found = scan(path)
        _last.clear()
        _last[key] = found
    return _last[key]


def _send(replies: BinaryIO, header: dict[str, Any], payload: memoryview | None = None) -> None:
    _write_all(replies, memoryview(protocol.pack(header)))
    if payload is not None and payload.nbytes:
        _write_all(replies, payload.cast("B"))


def _write_all(replies: BinaryIO, data: memoryview) -> None:
    """An unbuffered write to a pipe may take a part only."""
    while data:
        data = data[replies.write(data) :]


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


if __name__ == "__main__":
    main()
