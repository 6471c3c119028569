"""A real browser for the tests: headless Chromium, driven over its debugging pipe by the standard library alone.

The protocol is Chrome's DevTools protocol: JSON messages, each ended by a NUL, on the child's file descriptors 3 and 4.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
SWITCHES = (
    *("--headless=new", "--remote-debugging-pipe", "--no-first-run", "--no-default-browser-check"),
    *("--disable-gpu", "--disable-dev-shm-usage", "--mute-audio", "--hide-scrollbars", "--force-device-scale-factor=1"),
    *("--autoplay-policy=no-user-gesture-required", "--disable-background-networking", "--disable-component-update"),
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1 , EXCLUDE localhost",  # there is no network
)

# In the child: its two pipes become descriptors 3 and 4, whatever numbers they had.
START = """import os, sys
read, write = (os.dup(os.dup(os.dup(os.dup(int(fd))))) for fd in sys.argv[1:3])
os.dup2(read, 3), os.dup2(write, 4)
os.execv(sys.argv[3], sys.argv[3:])"""

# Keys that the browser itself acts on.
CODES = {"Tab": 9, "Enter": 13, "Escape": 27, " ": 32}


def executable() -> str | None:
    """The Chromium of this machine, AVST_BROWSER's before others."""
    named = os.environ.get("AVST_BROWSER")
    return named or next((found for name in NAMES if (found := shutil.which(name))), None)


class Browser:
    """One page of a headless browser. `errors` collects what scripts threw and what the security policy refused."""

    def __init__(self, width: int = 1360, height: int = 860) -> None:
        self.profile = tempfile.mkdtemp(prefix="avst-browser-")
        to_child, self.write_fd = os.pipe()
        self.read_fd, from_child = os.pipe()
        switches = [*SWITCHES, f"--user-data-dir={self.profile}", f"--window-size={width},{height}"]
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            switches.append("--no-sandbox")  # Chromium refuses its sandbox to root, which CI is
        command = [sys.executable, "-c", START, str(to_child), str(from_child), executable() or "", *switches]
        self.child = subprocess.Popen(
            [*command, "about:blank"],
            pass_fds=(to_child, from_child),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_child)
        os.close(from_child)
        self.number, self.buffer, self.errors = 0, b"", list[str]()
        self.session: str | None = None
        self.size = (width, height)
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(t["targetId"] for t in targets if t["type"] == "page")
        self.session = self.call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        self.resize(width, height)

    def call(self, method: str, **params: Any) -> Any:
        """Send a command and wait for its result; events that pass by are looked through for errors."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if self.session is not None:
            message["sessionId"] = self.session
        os.write(self.write_fd, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]
            self._event(answer)

    def _receive(self) -> dict[str, Any]:
        until = time.monotonic() + 90
        while b"\0" not in self.buffer:
            if not select.select([self.read_fd], [], [], max(0.0, until - time.monotonic()))[0]:
                raise TimeoutError("the browser does not answer")
            piece = os.read(self.read_fd, 1 << 20)
            if not piece:
                raise RuntimeError("the browser ended")
            self.buffer += piece
        text, _, self.buffer = self.buffer.partition(b"\0")
        return json.loads(text)

    def _event(self, event: dict[str, Any]) -> None:
        params = event.get("params", {})
        if event.get("method") == "Runtime.exceptionThrown":
            thrown = params["exceptionDetails"]
            self.errors.append(thrown.get("exception", {}).get("description") or thrown["text"])
        if event.get("method") == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.errors.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")

    def resize(self, width: int, height: int, scale: float = 1) -> None:
        self.size = (width, height)
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=False
        )

    def dark(self, on: bool) -> None:
        value = "dark" if on else "light"
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": value}])

    def open(self, url: str | Path) -> None:
        """Go to a page and wait until it says that it is ready."""
        self.call("Page.navigate", url="about:blank")
        self.call("Page.navigate", url=url.resolve().as_uri() if isinstance(url, Path) else url)
        self.until("document.documentElement?.dataset.ready === 'yes'")

    def run(self, script: str) -> Any:
        """The value of an expression in the page; a promise is waited for."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"].get("exception", {}).get("description", "the script failed"))
        return answer["result"].get("value")

    def until(self, script: str, seconds: float = 60) -> Any:
        """Wait until an expression is true in the page."""
        end = time.monotonic() + seconds
        while not (value := self.run(f"((v) => v instanceof Node ? true : v)({script})")):
            if time.monotonic() > end:
                raise TimeoutError(f"never true: {script}; errors: {self.errors}")
            time.sleep(0.05)
        return value

    def place(self, selector: str) -> tuple[float, float, float, float]:
        """(left, top, width, height) of an element in the window."""
        found = self.run(
            f"(() => {{ const r = document.querySelector({json.dumps(selector)})?.getBoundingClientRect();"
            "return r ? [r.left, r.top, r.width, r.height] : null; })()"
        )
        assert found, f"nothing is at: {selector}"
        return found

    def set(self, selector: str, value: object) -> None:
        """Give a field a value as a user would: its listeners are told."""
        self.run(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); e.value = {json.dumps(str(value))};"
            "for (const kind of ['input', 'change']) e.dispatchEvent(new Event(kind)); })()"
        )

    def click(self, selector: str) -> None:
        """A real click in the middle of an element, brought in sight first."""
        found = self.run(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); if (!e) return null;"
            "e.scrollIntoView({block: 'center'}); const r = e.getBoundingClientRect();"
            "return [r.left + r.width / 2, r.top + r.height / 2]; })()"
        )
        assert found, f"nothing to click at: {selector}"
        self.click_at(*found)

    def click_at(self, x: float, y: float) -> None:
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)

    def move(self, x: float, y: float) -> None:
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def press(self, key: str, code: str = "", shift: bool = False) -> None:
        """A key of the keyboard. Example: press("j", "KeyJ"); press("!", "Digit1", shift=True)."""
        one = {"key": key, "code": code, "modifiers": 8 if shift else 0, "windowsVirtualKeyCode": CODES.get(key, 0)}
        if len(key) == 1:
            one["text"] = key
        self.call("Input.dispatchKeyEvent", type="keyDown", **one)
        self.call("Input.dispatchKeyEvent", type="keyUp", **one)

    def screenshot(self, path: Path) -> None:
        data = self.call("Page.captureScreenshot", format="png")["data"]
        path.write_bytes(base64.b64decode(data))

    def close(self) -> None:
        with contextlib.suppress(OSError, RuntimeError, TimeoutError):
            self.session = None
            self.call("Browser.close")
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.child.wait(10)
        self.child.kill()
        self.child.wait()
        os.close(self.read_fd)
        os.close(self.write_fd)
        shutil.rmtree(self.profile, ignore_errors=True)


@contextlib.contextmanager
def open_browser(width: int = 1360, height: int = 860) -> Iterator[Browser]:
    browser = Browser(width, height)
    try:
        yield browser
    finally:
        browser.close()
