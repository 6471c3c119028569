"""The disk cache: found by content and settings, whole or not at all, bounded, shared by processes."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avst import bounded_folder
from avst.media import MediaError, MediaSettings, cache, cache_stats, content_digest, digest, load, load_clip
from avst.media.cache import ClipCache, Entry
from avst.types import Clip
from tests.media.make_media import numbers_of, tone

EXPECTED = [0, 12, 25, 37, 50, 62, 75, 87]


@pytest.fixture(autouse=True)
def fresh() -> None:
    """What this process remembers of files and warnings must not reach from one test into the next."""
    cache._checked.clear()
    bounded_folder.warned.clear()
    digest._known.clear()


def entries(root: Path) -> list[Path]:
    return sorted((root / "clips").rglob("*.clip"))


def counts_of(action) -> tuple[int, int, int]:
    """(hits, misses, damaged) that an action adds."""
    before = cache_stats()
    action()
    after = cache_stats()
    return (after.hits - before.hits, after.misses - before.misses, after.damaged - before.damaged)


def made_entry(value: int, n: int = 1000) -> Entry:
    return Entry(np.full((2, 1, n, 3), value, np.uint8), np.full(10, value, np.float32), {"value": value})


def test_the_second_read_is_equal_and_decodes_nothing(film, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = film(sound=tone(440, 4, 48000)[None])
    settings = MediaSettings(cache_dir=tmp_path / "cache")
    fresh_clip = load_clip(path, settings)

    def decoded(*_: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(load, "_decode", decoded)
    assert counts_of(lambda: load_clip(path, settings)) == (1, 0, 0)
    kept = load_clip(path, settings)
    np.testing.assert_array_equal(kept.frames, fresh_clip.frames)
    np.testing.assert_array_equal(kept.audio, fresh_clip.audio)
    np.testing.assert_array_equal(kept.times_s, fresh_clip.times_s)
    assert (kept.fps, kept.duration_s, kept.source_size) == (2.0, fresh_clip.duration_s, (160, 120))
    assert (fresh_clip.provenance["from_cache"], kept.provenance["from_cache"]) == (False, True)
    assert kept.provenance["digest"] == content_digest(path)


def test_frames_are_mapped_and_writing_to_them_does_not_reach_the_file(film, tmp_path: Path) -> None:
    path = film()
    settings = MediaSettings(cache_dir=tmp_path / "cache")
    load_clip(path, settings)
    clip = load_clip(path, settings)
    assert clip.frames.flags.writeable  # torch.from_numpy wants that
    clip.frames[:] = 7
    assert numbers_of(load_clip(path, settings).frames) == EXPECTED


def test_known_by_content_not_by_name(film, tmp_path: Path) -> None:
    path = film()
    settings = MediaSettings(cache_dir=tmp_path / "cache")
    load_clip(path, settings)
    copy = tmp_path / "other name.mp4"
    shutil.copy(path, copy)
    assert counts_of(lambda: load_clip(copy, settings)) == (1, 0, 0)
    assert load_clip(copy, settings).provenance["path"] == str(copy)


def test_new_content_under_the_old_name_is_seen(film, tmp_path: Path) -> None:
    path = film()
    settings = MediaSettings(cache_dir=tmp_path / "cache")
    load_clip(path, settings)
    times = os.stat(path)
    film(times_s=[i / 10 for i in range(40)])  # another film, in the same place
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert numbers_of(load_clip(path, settings).frames) == [0, 5, 10, 15, 20, 25, 30, 35]


@pytest.mark.parametrize(
    "other",
    [{"fps": 1.0}, {"max_frames": 4}, {"size": (80, 60)}, {"audio_rate": None}, {"channels": "keep"}],
)
def test_other_settings_are_another_entry(film, tmp_path: Path, other: dict[str, Any]) -> None:
    path = film(sound=tone(440, 4, 48000)[None])
    load_clip(path, MediaSettings(cache_dir=tmp_path / "cache"))
    asked = MediaSettings(cache_dir=tmp_path / "cache", **other)
    assert counts_of(lambda: load_clip(path, asked)) == (0, 1, 0)
    assert len(entries(tmp_path / "cache")) == 2


def test_deadline_and_bound_are_not_part_of_the_key(film, tmp_path: Path) -> None:
    path = film()
    load_clip(path, MediaSettings(cache_dir=tmp_path / "cache"))
    asked = MediaSettings(cache_dir=tmp_path / "cache", deadline_s=30, cache_gb=1)
    assert counts_of(lambda: load_clip(path, asked)) == (1, 0, 0)


def test_another_decoder_version_is_another_entry(film, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = film()
    settings = MediaSettings(cache_dir=tmp_path / "cache")
    load_clip(path, settings)
    monkeypatch.setattr(load, "_versions", lambda decoder: {"av": "999"})
    assert counts_of(lambda: load_clip(path, settings)) == (0, 1, 0)


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.write_bytes(data)


DAMAGE = {
    "short": lambda p: p.write_bytes(p.read_bytes()[:-1]),
    "long": lambda p: p.write_bytes(p.read_bytes() + b"x"),
    "empty": lambda p: p.write_bytes(b""),
    "a few bytes": lambda p: p.write_bytes(b"AVSTC"),
    "magic": lambda p: flip(p, 0),
    "header's length": lambda p: flip(p, 18),
    "header": lambda p: flip(p, 40),
    "first pixel": lambda p: flip(p, 4096),
    "last sample": lambda p: flip(p, -1),
    "another entry's bytes": lambda p: p.write_bytes(b"AVSTCLIP" + bytes(500)),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_entry_is_found_and_decoded_again(film, tmp_path: Path, damage) -> None:
    path = film(sound=tone(440, 4, 48000)[None])
    settings = MediaSettings(cache_dir=tmp_path / "cache")
    first = load_clip(path, settings)
    load_clip(path, settings)  # its checksum is known to be good; the damage comes later
    (entry,) = entries(tmp_path / "cache")
    damage(entry)
    clips = []
    assert counts_of(lambda: clips.append(load_clip(path, settings))) == (0, 1, 1)
    np.testing.assert_array_equal(clips[0].frames, first.frames)
    np.testing.assert_array_equal(clips[0].audio, first.audio)
    assert counts_of(lambda: load_clip(path, settings)) == (1, 0, 0)


def test_least_recently_used_goes_first(tmp_path: Path) -> None:
    store = ClipCache(tmp_path, 10**9)
    for i in range(4):
        store.write(f"key{i}", made_entry(i))
        time.sleep(0.02)
    size = sum(p.stat().st_size for p in entries(tmp_path)) // 4
    assert store.read("key0").meta == {"value": 0}  # now key1 is the one longest unused
    before = cache_stats().evicted
    ClipCache(tmp_path, 4 * size).write("key4", made_entry(4))
    assert cache_stats().evicted - before == 1
    assert [p.stem for p in entries(tmp_path)] == ["key0", "key2", "key3", "key4"]
    time.sleep(0.02)
    ClipCache(tmp_path, 2 * size + 10).write("key5", made_entry(5))
    assert [p.stem for p in entries(tmp_path)] == ["key4", "key5"]
    assert sum(p.stat().st_size for p in entries(tmp_path)) <= 2 * size + 10


def test_an_evicted_entry_stays_readable_for_who_has_it(tmp_path: Path) -> None:
    store = ClipCache(tmp_path, 10**9)
    store.write("key0", made_entry(3))
    held = store.read("key0")
    entries(tmp_path)[0].unlink()
    assert (held.frames == 3).all()


def test_a_clip_larger_than_the_cache_is_not_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = ClipCache(tmp_path, 1000)
    with caplog.at_level(logging.WARNING):
        store.write("key0", made_entry(0))
        store.write("key1", made_entry(1))
    assert entries(tmp_path) == []
    assert [r.message for r in caplog.records if "larger than the whole clip cache" in r.message] == [
        caplog.messages[0]
    ]


@pytest.mark.parametrize("failing", ["full disk", "a file where the folder should be"])
def test_a_cache_that_cannot_be_written_warns_once_and_goes_on(
    film, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, failing: str
) -> None:
    path, root = film(), tmp_path / "cache"
    if failing == "full disk":

        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(cache.os, "replace", full)
        monkeypatch.setattr(digest.os, "replace", full)
    else:
        root.write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert numbers_of(load_clip(path, MediaSettings(cache_dir=root)).frames) == EXPECTED
    assert len([m for m in caplog.messages if "cannot be written" in m]) == 1
    assert list(tmp_path.rglob("*.part")) == []


def test_a_cache_one_may_only_read_still_serves(film, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Setting the time of use fails as it does on a read-only file system (this may run as root, so not by chmod)."""
    path = film()
    settings = MediaSettings(cache_dir=tmp_path / "cache")
    load_clip(path, settings)

    def read_only(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(cache.os, "utime", read_only)
    assert counts_of(lambda: load_clip(path, settings)) == (1, 0, 0)


def test_parts_left_by_a_killed_writer_are_cleared_away(tmp_path: Path) -> None:
    store = ClipCache(tmp_path, 10**9)
    store.write("key0", made_entry(0))
    folder = entries(tmp_path)[0].parent
    old, new = folder / "a.clip.1.1.part", folder / "b.clip.1.1.part"
    old.write_bytes(b"x")
    new.write_bytes(b"x")
    os.utime(old, (time.time() - 7200, time.time() - 7200))
    store.write("key1", made_entry(1))
    assert not old.exists()
    assert new.exists()


def test_errors_are_not_kept(film, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_text("no video")
    for _ in range(2):
        with pytest.raises(MediaError):
            load_clip(path, MediaSettings(cache_dir=tmp_path / "cache"))
    assert not (tmp_path / "cache" / "clips").exists()


def test_a_file_that_changes_while_it_is_decoded_is_refused(
    film, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = film()
    decode = load._decode

    def slow(*arguments):
        entry = decode(*arguments)
        os.utime(path)
        return entry

    monkeypatch.setattr(load, "_decode", slow)
    with pytest.raises(MediaError, match="changed while it was being decoded"):
        load_clip(path, MediaSettings(cache_dir=tmp_path / "cache"))


def test_digests_are_remembered_on_disk(film, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = film()
    first = content_digest(path, tmp_path / "digests")
    digest._known.clear()
    monkeypatch.setattr(digest, "_hash", lambda path: pytest.fail("hashed again"))
    assert content_digest(path, tmp_path / "digests") == first
    assert first == hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()


def content(clip: Clip) -> str:
    """Digest of all that a clip shows and sounds."""
    assert clip.audio is not None
    return hashlib.blake2b(clip.frames.tobytes() + clip.audio.tobytes() + clip.times_s.tobytes()).hexdigest()


def test_many_processes_share_a_small_cache(film, tmp_path: Path) -> None:
    """Four processes read and write eight films through a cache that holds about three: never a byte other than what an
    uncached decode gives."""
    paths = []
    for k in range(8):
        sound = tone(300 + 50 * k, 4, 16000)[None]
        times = [i / (k + 5) for i in range(4 * (k + 5))]
        paths.append(str(film(f"{k}.mp4", times_s=times, size=(80, 60), sound=sound, sound_rate=16000)))
    wanted = [content(load_clip(path)) for path in paths]
    assert len(set(wanted)) == 8
    root = tmp_path / "cache"
    program = f"""
        import random, sys
        from avst.media import MediaSettings, load_clip, cache_stats
        from tests.media.test_cache import content
        paths, wanted = {paths!r}, {wanted!r}
        rng = random.Random(int(sys.argv[1]))
        settings = MediaSettings(cache_dir={str(root)!r}, cache_gb=1_200_000 / 1e9)
        for _ in range(60):
            k = rng.randrange(8)
            assert content(load_clip(paths[k], settings)) == wanted[k], k
        stats = cache_stats()
        assert stats.hits + stats.misses == 60 and stats.hits > 0 and stats.damaged == 0, stats
        """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    here = Path(__file__).resolve().parents[2]
    runs = [subprocess.Popen([*command, str(i)], cwd=here, stderr=subprocess.PIPE, text=True) for i in range(4)]
    said = [run.communicate(timeout=120)[1] for run in runs]
    assert [run.returncode for run in runs] == [0] * 4, said
    assert 0 < sum(p.stat().st_size for p in entries(root)) <= 1_200_000
    assert list(root.rglob("*.part")) == []
