"""A video is one file of its folder: it names no other file or host, and nothing near it is imported.

Names of videos and links: tests/media/test_paths.py; playlists: tests/media/test_bad_files.py.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from avst.doctor.probe import ask
from avst.media import MediaError, load_clip, probe, video_path
from avst.media.process import close_workers
from avst.media.source import open_media
from tests.media.make_media import Film, write
from tests.security.canary import Canary


class Listener:
    """A host that notes who asks. url: of a video that it does not have."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        asked = self.asked

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                self.send_error(404)

            def log_message(self, format: str, *args: object) -> None:
                """Nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/a.mp4"


@pytest.fixture
def listener() -> Iterator[Listener]:
    made = Listener()
    thread = threading.Thread(target=made.server.serve_forever)
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


def test_a_video_asks_no_host(tmp_path: Path, listener: Listener) -> None:
    playlists = (
        f"ffconcat version 1.0\nfile '{listener.url}'\noption safe 0\n",
        f"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n{listener.url}\n#EXT-X-ENDLIST\n",
    )
    for number, text in enumerate(playlists):
        (tmp_path / f"{number}.mp4").write_text(text)
        with pytest.raises(MediaError):
            load_clip(tmp_path / f"{number}.mp4")
    for path in (listener.url, f"crypto+{listener.url}", f"async:{listener.url}"):
        for way in (load_clip, probe):
            with pytest.raises(MediaError, match="No such file"):
                way(path)
    assert listener.asked == []


@pytest.mark.parametrize("name", ["concat:film.mp4", "subfile,,start,0,end,0,,:film.mp4"])
def test_a_file_name_is_no_order_to_ffmpeg(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the folder one stands in, a name may look like one of ffmpeg's protocols."""
    write(tmp_path / "film.mp4", Film())
    (tmp_path / name).write_bytes(b"\0" * 64)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MediaError), open_media(name):
        pytest.fail("another file was opened")


@pytest.mark.parametrize("name", ["*", "fil?", "[f]ilm", "..%2ffilm", "%66ilm", "~", "$HOME", "film;x", "fil\uff4d"])
def test_names_are_taken_letter_by_letter(name: str, tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    for place in (tmp_path, tmp_path / "videos"):
        (place / "film.mp4").write_bytes(b"x")
    with pytest.raises(MediaError, match="no such video"):
        video_path(tmp_path / "videos", name)


@pytest.mark.parametrize("name", ["a\x7fb", "a\x9b2Jb", "a\x85b"])
def test_every_control_character_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="refused, it holds a control character"):
        video_path(tmp_path, name)


def test_modules_among_the_videos_are_not_imported(
    tmp_path: Path, canary: Canary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child process of Python looks for modules in the folder it is started in, unless told not to."""
    write(tmp_path / "film.mp4", Film())
    for name in ("av", "numpy", "json", "dataclasses", "sly"):
        (tmp_path / f"{name}.py").write_text(canary.code())
    monkeypatch.chdir(tmp_path)
    close_workers()
    assert probe("film.mp4").n_frames == 100
    found, _ = ask("avst.doctor.try_imports", ["sly"])
    assert "ModuleNotFoundError" in str(found)
    assert not canary.dead
