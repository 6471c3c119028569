"""Names of videos: found in their folder, or refused before anything is opened."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from avst.media import MediaError, video_path


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    folder.mkdir()
    (tmp_path / "secret.mp4").write_bytes(b"x")
    for name in ("abc.mp4", "-8hS.x.mp4", "many.webm", "many.mp4", "only.mkv", "LOUD.MP4", "note.txt"):
        (folder / name).write_bytes(b"x")
    return folder


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("abc", "abc.mp4"),
        ("-8hS.x", "-8hS.x.mp4"),
        ("many", "many.mp4"),
        ("only", "only.mkv"),
        ("LOUD", "LOUD.MP4"),
        ("abc.mp4", "abc.mp4"),
    ],
)
def test_found(videos: Path, name: str, file: str) -> None:
    assert video_path(videos, name) == videos / file


@pytest.mark.parametrize(
    "name",
    [
        "..",
        ".",
        "",
        "  ",
        "../secret",
        "/etc/passwd",
        "a/../../secret",
        "sub/abc",
        "..\\secret",
        "C:\\secret",
        "abc\0",
        "abc\n",
        "x" * 300,
        "\ud800",
        None,
        7,
    ],
)
def test_refused_before_opening(videos: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def touched(*_: object, **__: object) -> None:
        raise AssertionError("the file system was touched")

    for function in ("stat", "lstat", "open", "scandir"):
        monkeypatch.setattr(os, function, touched)
    with pytest.raises(MediaError, match="refused") as caught:
        video_path(videos, name)
    assert "\n" not in str(caught.value)


def test_links_out_of_the_folder_are_refused(videos: Path) -> None:
    (videos / "out.mp4").symlink_to(videos.parent / "secret.mp4")
    (videos / "up.mp4").symlink_to("../secret.mp4")
    (videos / "in.mp4").symlink_to("abc.mp4")
    (videos / "round.mp4").symlink_to("round.mp4")
    (videos / "nowhere.mp4").symlink_to("missing.mp4")
    for name in ("out", "up"):
        with pytest.raises(MediaError, match="leads out of the videos folder"):
            video_path(videos, name)
    for name in ("round", "nowhere"):
        with pytest.raises(MediaError, match="leads nowhere"):
            video_path(videos, name)
    assert video_path(videos, "in") == videos / "in.mp4"


def test_a_folder_that_is_itself_a_link_is_fine(videos: Path) -> None:
    link = videos.parent / "link"
    link.symlink_to(videos)
    assert video_path(link, "abc") == link / "abc.mp4"


def test_missing(videos: Path) -> None:
    for name in ("nothing", "note"):
        with pytest.raises(MediaError, match=rf"{name}\.mp4: no such video"):
            video_path(videos, name)
    with pytest.raises(MediaError, match="videos folder"):
        video_path(videos / "no", "abc")
    (videos / "dir.mp4").mkdir()
    with pytest.raises(MediaError, match="not an ordinary file"):
        video_path(videos, "dir")
