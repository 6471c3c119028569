"""The screen again and again, and the keys: left and right (or p and n) for the group, q or Ctrl-C to end."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.live import Live

from avst.watch.follow import Follower
from avst.watch.screen import screen

KEYS = {b"n": 1, b"\x1b[C": 1, b"p": -1, b"\x1b[D": -1}


def show_once(run: Path, console: Console) -> None:
    """One screen as plain lines. Where it goes to a file, the completions are not cut to a terminal's height."""
    height = console.height if console.is_terminal else 60
    ascii_only = console.options.ascii_only
    console.print(screen(Follower(run).look(), run, console.width, height, 0, ascii_only), highlight=False)


def watch(run: Path, console: Console, every_s: float) -> None:
    """Until q or Ctrl-C. A key is answered at once, new lines are looked for every `every_s` seconds."""
    follower, chosen = Follower(run), 0
    seen = follower.look()
    with _keys() as reads, Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            picture = screen(seen, run, console.width, console.height, chosen, console.options.ascii_only)
            live.update(picture, refresh=True)
            key = _key(every_s) if reads else _wait(every_s)
            if key in (b"q", b"Q"):
                return
            if key in KEYS:
                chosen += KEYS[key]
            else:
                seen = follower.look()


@contextlib.contextmanager
def _keys() -> Iterator[bool]:
    """Keys come one by one, unechoed, while the block runs; False where standard input is no terminal."""
    if not sys.stdin.isatty():
        yield False
        return
    import termios
    import tty

    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        yield True
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _key(wait_s: float) -> bytes:
    ready, _, _ = select.select([sys.stdin], [], [], wait_s)
    return os.read(sys.stdin.fileno(), 8) if ready else b""


def _wait(wait_s: float) -> bytes:
    time.sleep(wait_s)
    return b""
