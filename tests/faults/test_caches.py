"""Both caches under full and unwritable disks, killed writers and clocks that jump: a run goes on, and nothing that is
read later is other than what was computed."""

from __future__ import annotations

import logging
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from avst import bounded_folder, cli
from avst.durable import file_digest
from avst.media import cache, content_digest, digest
from avst.media.cache import ClipCache, Entry
from avst.models.feature_store import FeatureStore
from tests.faults.conftest import figures

CPU = torch.device("cpu")
KEY = "ab12"


@pytest.fixture(autouse=True)
def fresh() -> None:
    """What this process remembers of files and warnings must not reach from one test into the next."""
    cache._checked.clear()
    bounded_folder.warned.clear()
    digest._known.clear()
    digest._clear_lost_parts.cache_clear()


def clip_bytes(root: Path, value: int, limit: int = 10**9) -> bytes | None:
    """What the clip cache gives for a key; what it does not have is stored. None: it was not there."""
    store = ClipCache(root, limit)
    frames = np.random.default_rng(value).integers(0, 256, (2, 30, 40, 3), dtype=np.uint8)
    entry = Entry(frames, np.full(3000, value, np.float32), {"value": value})
    found = store.read(f"{KEY}{value}")
    if found is None:
        store.write(f"{KEY}{value}", entry)
        return None
    assert found.audio is not None
    assert found.meta == entry.meta
    np.testing.assert_array_equal(found.frames, entry.frames)
    np.testing.assert_array_equal(found.audio, entry.audio)
    return found.frames.tobytes()


def feature_bytes(root: Path, value: int, limit: int = 10**9) -> bytes | None:
    """The same of the feature store."""
    store = FeatureStore(root, limit)
    want = torch.randn(40, 60, generator=torch.Generator().manual_seed(value))
    found = store.get(f"{KEY}{value}", CPU, lambda: want)
    assert torch.equal(found, want)
    return None if store.stats().computed else found.numpy().tobytes()


Ask = Callable[..., bytes | None]
both = pytest.mark.parametrize("ask", [clip_bytes, feature_bytes], ids=["clips", "features"])


def files(root: Path) -> list[Path]:
    return sorted(p for p in root.rglob("*") if p.is_file() and p.name != "evict.lock")


@contextmanager
def room_for(n: int) -> Iterator[None]:
    """Files of this process may have n bytes: the write that would pass them fails in the kernel, in its middle."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@both
def test_a_disk_that_is_full_at_any_byte(ask: Ask, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whichever write fails, the entry is not there, nor a part of it, and one line in all says so."""
    assert ask(tmp_path / "whole", 1) is None
    (whole,) = files(tmp_path / "whole")
    size = whole.stat().st_size
    places = {*range(0, size, 701), *range(0, 200, 13), *range(4090, 4105), *range(size - 40, size)}
    with caplog.at_level(logging.WARNING):
        for n in sorted(places):
            with room_for(n):
                assert ask(tmp_path / "cache", 1) is None
            assert files(tmp_path / "cache") == [], n
    assert len(caplog.messages) == 1
    assert "cannot be written (File too large); going on" in caplog.messages[0]
    with room_for(size):
        assert ask(tmp_path / "cache", 1) is None
    assert len(files(tmp_path / "cache")) == 1
    assert ask(tmp_path / "cache", 1) is not None


@both
@pytest.mark.parametrize("hours", [-3, 3], ids=["clock right", "clock set back since"])
def test_a_writer_that_is_killed_leaves_nothing_that_lasts(
    ask: Ask, hours: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL between the last byte and the rename. The part goes when it is old, or from the future."""
    child = os.fork()
    if child == 0:
        monkeypatch.setattr(bounded_folder.os, "replace", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        try:
            ask(tmp_path, 1)
        finally:
            os._exit(3)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    (part,) = files(tmp_path)
    assert part.suffix == ".part"
    assert ask(tmp_path, 1) is None  # not taken for an entry
    assert part.exists()  # its writer may be at work
    os.utime(part, (time.time() + 3600 * hours,) * 2)
    assert ask(tmp_path, 2) is None
    assert not part.exists()
    assert (ask(tmp_path, 1), ask(tmp_path, 2)) != (None, None)
    assert len(files(tmp_path)) == 2


@pytest.mark.parametrize("hours", [-3, 3])
def test_parts_of_digests_go_too(hours: int, tmp_path: Path) -> None:
    part, new = tmp_path / "digests" / "a.json.7.7.part", tmp_path / "digests" / "b.json.7.7.part"
    part.parent.mkdir()
    part.write_text("{")
    new.write_text("{")
    os.utime(part, (time.time() + 3600 * hours,) * 2)
    (tmp_path / "a.mp4").write_bytes(b"x")
    content_digest(tmp_path / "a.mp4", tmp_path / "digests")
    assert not part.exists()
    assert new.exists()


@both
def test_entries_from_the_future_go_first(ask: Ask, tmp_path: Path) -> None:
    """The clock was ten years ahead when three entries were used, and is right again: one of them is used, and is as
    good as any other; the other two go before all that is used now."""
    for value in range(3):
        ask(tmp_path, value)
    ahead_ns = time.time_ns() + 10 * 365 * 86400 * 10**9
    future = {int(p.name.removeprefix(KEY).split(".")[0]): p for p in files(tmp_path)}
    for value, path in future.items():
        os.utime(path, ns=(ahead_ns + value, path.stat().st_mtime_ns))
    size = max(p.stat().st_size for p in future.values())
    assert ask(tmp_path, 1) is not None  # used: its time is right now
    for value in (3, 4, 5):
        ask(tmp_path, value, int(4.5 * size))
    assert [ask(tmp_path, value) is None for value in (1, 3, 4, 5)] == [False] * 4
    assert [path.exists() for value, path in sorted(future.items())] == [False, True, False]


@both
def test_a_clock_that_is_set_back_while_a_run_goes_on(
    ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A day back, a bound of three entries: what is written from then on stays, the least recently used goes first."""
    ask(tmp_path, 0)
    size = files(tmp_path)[0].stat().st_size
    bound = int(3.5 * size)
    for value in (1, 2):
        ask(tmp_path, value, bound)
    for name, unit in (("time", 1), ("time_ns", 10**9)):
        now = getattr(time, name)
        monkeypatch.setattr(bounded_folder.time, name, lambda now=now, unit=unit: now() - 86400 * unit)
    for value in (3, 4, 5):
        assert ask(tmp_path, value, bound) is None
        time.sleep(0.01)
    assert ask(tmp_path, 3, bound) is not None
    assert ask(tmp_path, 6, bound) is None  # 4 is the one longest unused
    kept = sorted(int(p.name.removeprefix(KEY).split(".")[0]) for p in files(tmp_path))
    assert kept == [3, 5, 6]


@pytest.mark.parametrize("fault", ["nowhere", "full"])
def test_a_run_without_a_cache_that_works_is_a_run_without_a_cache(
    fault: str, place: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Steps, answers and weights are the same to the bit; each cache is complained of once, and leaves nothing."""
    ways = ["grpo.max_steps=3", "grpo.dataloader_num_workers=0", "model.freeze=[vision,audio,connector]"]
    assert cli.main(["train", "faults.yaml", *ways, "--output-dir", "plain"]) == 0
    root = "/proc/avst" if fault == "nowhere" else "cache"  # nobody may make a folder in /proc, not even root
    caches = [f"media.cache_dir={root}", f"model.feature_cache={root}"]
    if fault == "full":
        put = bounded_folder.BoundedFolder.put

        def full(*given: Any) -> Any:
            with room_for(100):
                return put(*given)

        monkeypatch.setattr(bounded_folder.BoundedFolder, "put", full)
    assert cli.main(["train", "faults.yaml", *ways, *caches, "--output-dir", "cached"]) == 0
    plain, cached = figures(place / "plain"), figures(place / "cached")
    same = ("loss", "reward", "grad_norm", "entropy", "completions/tokens", "samples/skipped")
    assert [[row.get(name) for name in same] for row in cached] == [[row.get(name) for name in same] for row in plain]
    assert any(row["grad_norm"] > 0 for row in plain)  # something was learned
    weights = [file_digest(place / run / "final" / "model.safetensors") for run in ("plain", "cached")]
    assert weights[0] == weights[1]
    said = [line for line in caplog.messages if "cannot be written" in line]
    assert sorted(line.split(" cache ")[0] for line in said) == ["the clip", "the feature"]
    if fault == "full":
        assert [p for p in files(place / "cache") if p.parent.name != "digests"] == []
