"""The report over HTTP: ranges as browsers ask for them, and nothing that is not the report's."""

from __future__ import annotations

import http.client
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from avst.errors import AvstError
from avst.report.serve import HOST, byte_range, find, make_server

BYTES = bytes(range(256)) * 40  # 10,240 of them


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A small report with a copied video, a linked one, and things that must stay where they are."""
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "elsewhere.mp4").write_bytes(BYTES)
    (tmp_path / "passwords.json").write_text("{}")
    folder = tmp_path / "report"
    (folder / "media").mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html>hello")
    (folder / "media" / "0.mp4").write_bytes(BYTES)
    (folder / ".hidden").write_text("hidden")
    (folder / "empty.js").write_text("")
    (folder / "out.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "up").symlink_to(tmp_path)
    linked = {
        "media/1.mp4": str((tmp_path / "elsewhere.mp4").resolve()),
        "media/2.mp4": str((tmp_path / "gone.mp4").resolve()),
        "media/3.json": str((tmp_path / "passwords.json").resolve()),
        "index.html": str((tmp_path / "elsewhere.mp4").resolve()),
    }
    (folder / "report.json").write_text(json.dumps({"kind": "avst report", "runs": [], "linked": linked}))
    return folder


@pytest.fixture
def port(site: Path) -> Iterator[int]:
    with make_server(site, 0) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def ask(
    port: int, path: str, method: str = "GET", host: str | None = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(HOST, port, timeout=20)
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    connection.putheader("Host", host if host is not None else f"localhost:{port}")
    for name, value in headers.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, {k.lower(): v for k, v in answer.getheaders()}, body


def test_a_whole_file(port: int) -> None:
    status, headers, body = ask(port, "/media/0.mp4?x=1")
    assert (status, body) == (200, BYTES)
    assert headers["content-type"] == "video/mp4"
    assert headers["accept-ranges"] == "bytes"
    assert headers["x-content-type-options"] == "nosniff"
    assert ask(port, "/")[2] == b"<!doctype html>hello"
    assert ask(port, "/")[1]["content-type"] == "text/html; charset=utf-8"
    assert ask(port, "/empty.js")[::2] == (200, b"")


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-", 0, 10239),
        ("bytes=0-0", 0, 0),
        ("bytes=100-299", 100, 299),
        ("bytes=10000-99999", 10000, 10239),
        ("bytes=-256", 9984, 10239),
        ("bytes=-99999", 0, 10239),
        ("bytes=10239-", 10239, 10239),
    ],
)
def test_a_range(port: int, asked: str, first: int, last: int) -> None:
    status, headers, body = ask(port, "/media/0.mp4", Range=asked)
    assert status == 206
    assert body == BYTES[first : last + 1]
    assert headers["content-range"] == f"bytes {first}-{last}/10240"
    assert headers["content-length"] == str(last + 1 - first)


@pytest.mark.parametrize("asked", ["bytes=10240-", "bytes=99999-100000", "bytes=-0"])
def test_a_range_past_the_end(port: int, asked: str) -> None:
    status, headers, _ = ask(port, "/media/0.mp4", Range=asked)
    assert status == 416
    assert headers["content-range"] == "bytes */10240"


@pytest.mark.parametrize("asked", ["bytes=5-2", "bytes=-", "items=0-1", "bytes=0-1,4-5", "bytes=a-b", "bytes=٣-٤", ""])
def test_a_range_that_makes_no_sense_gives_the_whole_file(asked: str) -> None:
    assert byte_range(asked, 10240) is None


def test_no_byte_of_an_empty_file_can_be_asked_for() -> None:
    assert byte_range("bytes=0-", 0) is False
    assert byte_range("bytes=-1", 0) is False
    assert byte_range(None, 0) is None


def test_a_range_of_another_version_of_the_file_is_not_given(port: int) -> None:
    tag = ask(port, "/media/0.mp4")[1]["etag"]
    assert ask(port, "/media/0.mp4", Range="bytes=0-1", If_Range=tag)[0] == 206
    assert ask(port, "/media/0.mp4", Range="bytes=0-1", If_Range='"other"')[::2] == (200, BYTES)


def test_head_is_get_without_a_body(port: int) -> None:
    status, headers, body = ask(port, "/media/0.mp4", "HEAD", Range="bytes=0-1")
    assert (status, headers["content-length"], body) == (200, "10240", b"")
    assert ask(port, "/none", "HEAD")[::2] == (404, b"")
    assert ask(port, "/", "POST")[0] == 501


def test_a_linked_video_is_served_and_nothing_else_that_report_json_may_name(port: int) -> None:
    assert ask(port, "/media/1.mp4", Range="bytes=1-2")[::2] == (206, BYTES[1:3])
    assert ask(port, "/media/2.mp4")[0] == 404
    assert ask(port, "/media/3.json")[0] == 404  # no video
    assert ask(port, "/index.html")[2] == b"<!doctype html>hello"  # a file of the report comes first


def test_a_linked_video_that_became_a_link_is_refused(site: Path) -> None:
    video = site.parent / "elsewhere.mp4"
    linked = {"media/1.mp4": video.resolve()}
    assert find(site.resolve(), linked, "/media/1.mp4") == video.resolve()
    video.unlink()
    video.symlink_to(site.parent / "secret.txt")
    assert find(site.resolve(), linked, "/media/1.mp4") is None


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "/media/../../secret.txt",
        "/media/%2e%2e/%2e%2e/secret.txt",
        "/..\\secret.txt",
        "//secret.txt",
        "/out.txt",
        "/up/secret.txt",
        "/loop",
        "/.hidden",
        "/media",
        "/media/",
        "/%00",
        "/index.html%00.js",
        "/%ff%fe",
        "/" + "a" * 5000,
    ],
)
def test_nothing_outside_is_served(port: int, path: str) -> None:
    status, _, body = ask(port, path)
    assert status == 404
    assert b"secret" not in body
    assert b"hidden" not in body


@pytest.mark.parametrize("host", ["example.com", "127.0.0.1.example.com", "localhost.evil:80", "", "10.0.0.1"])
def test_another_name_than_loopbacks_is_refused(port: int, host: str) -> None:
    assert ask(port, "/", host=host)[0] == 421


@pytest.mark.parametrize("host", ["localhost:9999", "127.0.0.1", "[::1]:80", "LOCALHOST"])
def test_the_names_that_a_tunnel_has_are_fine(port: int, host: str) -> None:
    assert ask(port, "/", host=host)[0] == 200


def test_it_is_bound_to_loopback_and_says_when_it_cannot_be(site: Path, port: int) -> None:
    with make_server(site, 0) as server:
        assert server.server_address[0] == "127.0.0.1"
    with pytest.raises(AvstError, match=f"--port {port}: cannot be served there"):
        make_server(site, port)
    with pytest.raises(AvstError, match="--port 70000"):
        make_server(site, 70000)
    with pytest.raises(AvstError, match="no report there"):
        make_server(site.parent, 0)


def test_a_client_that_leaves_does_no_harm(port: int, capfd: pytest.CaptureFixture[str]) -> None:
    connection = http.client.HTTPConnection(HOST, port, timeout=20)
    connection.request("GET", "/media/0.mp4", headers={"Host": "localhost"})
    connection.sock.close()
    assert ask(port, "/")[0] == 200
    assert "Traceback" not in capfd.readouterr().err


def test_unreadable_files_are_not_there(site: Path, port: int) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    (site / "index.html").chmod(0)
    assert ask(port, "/")[0] == 404
