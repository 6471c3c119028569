"""The feature store: what is read is what was computed; known by all that features depend on; whole or not at all,
bounded, shared by processes; and no error of it ends a run."""

from __future__ import annotations

import copy
import errno
import logging
import os
import pickle
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from avst import bounded_folder
from avst.models.feature_store import FeatureStore
from avst.models.features import media_features
from avst.models.loading import freeze_towers
from avst.types import Prompt
from tests.tiny_world import load_grouped, make_builder, make_clip, make_question

OMNI = "qwen2_5_omni"
FROZEN = ("vision", "audio", "connector")
HERE = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def fresh() -> None:
    bounded_folder.warned.clear()


@pytest.fixture(scope="module")
def model(tiny_folders: dict[str, Path]) -> Any:
    model = load_grouped(tiny_folders[OMNI])
    freeze_towers(model, FROZEN)
    return model


@pytest.fixture
def stored(model: Any, tmp_path: Path) -> Iterator[Any]:
    """The frozen model with an empty store."""
    model.feature_store = FeatureStore(tmp_path / "cache", 10**9)
    yield model
    model.feature_store = None


@pytest.fixture(scope="module")
def prompt(tiny_folders: dict[str, Path]) -> Prompt:
    return make_builder(tiny_folders[OMNI]).build(make_question(), make_clip(2.0))


def again(prompt: Prompt) -> Prompt:
    """The prompt as another epoch makes it: nothing kept on it."""
    return replace(prompt, features={})


def counts(store: FeatureStore) -> tuple[int, int, int]:
    """(hits in memory, hits on disk, computed) since the last call."""
    new = store.since_told()
    return new.memory, new.disk, new.computed


def entries(root: Path) -> list[Path]:
    return sorted(root.rglob("*.safetensors"))


def same_bits(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a.view(torch.uint8), b.view(torch.uint8))


@pytest.mark.parametrize("kind", ["qwen2_5_vl", OMNI])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_what_is_read_is_what_was_computed(
    tiny_folders: dict[str, Path], tmp_path: Path, kind: str, dtype: torch.dtype
) -> None:
    model = load_grouped(tiny_folders[kind], dtype)
    model.requires_grad_(False)
    prompt = make_builder(tiny_folders[kind]).build(make_question(), make_clip(2.0, sound=kind == OMNI))
    modalities = ("video", "audio") if kind == OMNI else ("video",)
    plain = [media_features(model, again(prompt), modality) for modality in modalities]
    model.feature_store = FeatureStore(tmp_path, 10**9)
    first = [media_features(model, again(prompt), modality) for modality in modalities]
    assert counts(model.feature_store) == (0, 0, len(modalities))
    model.feature_store = FeatureStore(tmp_path, 10**9)  # another process, which holds nothing
    read = [media_features(model, again(prompt), modality) for modality in modalities]
    assert counts(model.feature_store) == (0, len(modalities), 0)
    assert all(map(same_bits, plain, first))
    assert all(map(same_bits, plain, read))
    assert plain[0].dtype == dtype


def test_prompts_about_one_clip_share_one_tensor(tiny_folders: dict[str, Path], stored: Any) -> None:
    builder = make_builder(tiny_folders[OMNI])
    a, b = (builder.build(make_question(i, text), make_clip(2.0)) for i, text in enumerate(("When?", "Who sounds?")))
    assert media_features(stored, a, "video") is media_features(stored, b, "video")
    assert counts(stored.feature_store) == (1, 0, 1)
    media_features(stored, a, "video")
    assert counts(stored.feature_store) == (0, 0, 0)  # kept on the prompt: not asked for
    assert len(entries(stored.feature_store.folder.root)) == 1


def test_nothing_stays_in_memory_that_no_prompt_holds(stored: Any, prompt: Prompt) -> None:
    media_features(stored, again(prompt), "video")
    media_features(stored, again(prompt), "video")
    assert counts(stored.feature_store) == (0, 1, 1)


# ---- damage, limits, several processes -------------------------------------------------------------------------------


def ones(n: int = 1000, value: float = 1.0) -> Tensor:
    return torch.full((n, 4), value)


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.write_bytes(data)


DAMAGE = {
    "short": lambda p: p.write_bytes(p.read_bytes()[:-1]),
    "long": lambda p: p.write_bytes(p.read_bytes() + b"x"),
    "empty": lambda p: p.write_bytes(b""),
    "header's length": lambda p: flip(p, 1),
    "header": lambda p: flip(p, 20),
    "first value": lambda p: flip(p, 8 + int.from_bytes(p.read_bytes()[:8], "little")),
    "last value": lambda p: flip(p, -1),
    "another key's": lambda p: (
        FeatureStore(p.parents[2], 10**9).get("zz", CPU, ones) is os.replace(p.parents[1] / "zz" / "zz.safetensors", p)
    ),
    "a tensor of another name": lambda p: p.write_bytes(p.read_bytes().replace(b'"features"', b'"fEatures"')),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_file_counts_as_absent(tmp_path: Path, damage: Any) -> None:
    FeatureStore(tmp_path, 10**9).get("ab12", CPU, ones)
    (entry,) = entries(tmp_path)
    damage(entry)
    store = FeatureStore(tmp_path, 10**9)
    found = store.get("ab12", CPU, lambda: ones(value=2.0))
    assert same_bits(found, ones(value=2.0))
    assert (store.stats().damaged, store.stats().computed, store.stats().written) == (1, 1, 1)
    assert same_bits(FeatureStore(tmp_path, 10**9).get("ab12", CPU, ones), ones(value=2.0))  # written anew


def test_least_recently_used_goes_first(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, 10**9)
    for i in range(4):
        store.get(f"k{i}", CPU, ones)
        time.sleep(0.02)
    size = entries(tmp_path)[0].stat().st_size
    store.get("k0", CPU, ones)  # now k1 is the one longest unused
    small = FeatureStore(tmp_path, 4 * size)
    small.get("k4", CPU, ones)
    assert [p.stem for p in entries(tmp_path)] == ["k0", "k2", "k3", "k4"]
    assert small.stats().evicted == 1
    assert sum(p.stat().st_size for p in entries(tmp_path)) <= 4 * size


def test_features_larger_than_the_folder_may_be_are_not_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = FeatureStore(tmp_path, 100)
    with caplog.at_level(logging.WARNING):
        assert same_bits(store.get("a", CPU, ones), ones())
        store.get("b", CPU, ones)
    assert entries(tmp_path) == []
    assert len(caplog.messages) == 1
    assert "larger than the whole feature cache" in caplog.messages[0]


@pytest.mark.parametrize("failing", ["full disk", "a file where the folder should be"])
def test_a_folder_that_cannot_be_written_warns_once_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, failing: str
) -> None:
    root = tmp_path / "cache"
    if failing == "full disk":

        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(bounded_folder.os, "replace", full)
    else:
        root.write_bytes(b"")
    store = FeatureStore(root, 10**9)
    with caplog.at_level(logging.WARNING):
        for key in "abc":
            assert same_bits(store.get(key, CPU, ones), ones())
    assert len([m for m in caplog.messages if "cannot be written" in m]) == 1
    assert (store.stats().computed, store.stats().written) == (3, 0)
    assert list(tmp_path.rglob("*.part")) == []


def test_a_folder_one_may_only_read_still_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a read-only file system (this may run as root, so not by chmod)."""
    FeatureStore(tmp_path, 10**9).get("a", CPU, ones)

    def read_only(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    for name in ("utime", "replace", "unlink", "mkdir"):
        monkeypatch.setattr(bounded_folder.os, name, read_only)
    store = FeatureStore(tmp_path, 10**9)
    store.get("a", CPU, ones)
    store.get("b", CPU, ones)
    assert (store.stats().disk, store.stats().computed, store.stats().written) == (1, 1, 0)


def test_a_folder_that_cannot_be_read_warns_once_and_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = FeatureStore(tmp_path, 10**9)
    for key in "ab":
        store.folder.path(key).mkdir(parents=True)  # a folder in the file's place
    with caplog.at_level(logging.WARNING):
        assert [same_bits(store.get(key, CPU, ones), ones()) for key in "ab"] == [True, True]
    assert len([m for m in caplog.messages if "cannot be read" in m]) == 1
    assert store.stats().computed == 2


def test_another_process_knows_the_clip_by_the_same_key(tiny_folders: dict[str, Path], stored: Any) -> None:
    program = """
        import sys
        from pathlib import Path
        from avst.models.feature_store import FeatureStore
        from avst.models.features import media_features
        from avst.models.loading import freeze_towers
        from tests.tiny_world import load_grouped, make_builder, make_clip, make_question
        folder, root = Path(sys.argv[1]), Path(sys.argv[2])
        model = load_grouped(folder)
        freeze_towers(model, ("vision", "audio", "connector"))
        model.feature_store = FeatureStore(root, 10**9)
        prompt = make_builder(folder).build(make_question(7), make_clip(2.0))
        for modality in ("video", "audio"):
            media_features(model, prompt, modality)
        """
    store = stored.feature_store
    command = [sys.executable, "-c", textwrap.dedent(program), str(tiny_folders[OMNI]), str(store.folder.root.parent)]
    subprocess.run(command, cwd=HERE, check=True, timeout=120)
    prompt = make_builder(tiny_folders[OMNI]).build(make_question(), make_clip(2.0))
    found = [media_features(stored, prompt, modality) for modality in ("video", "audio")]
    assert counts(store) == (0, 2, 0)
    stored.feature_store = None
    own = [media_features(stored, again(prompt), modality) for modality in ("video", "audio")]
    assert all(map(same_bits, found, own))


def test_many_processes_share_a_small_folder(tmp_path: Path) -> None:
    """Three processes read and write eight clips' features through a folder that holds three: never a wrong one."""
    program = """
        import random, sys, torch
        from avst.models.feature_store import FeatureStore
        rng = random.Random(int(sys.argv[1]))
        store = FeatureStore(sys.argv[2], 3 * 17_000)
        for _ in range(150):
            k = rng.randrange(8)
            found = store.get(f"{k}{k}", torch.device("cpu"), lambda: torch.full((1000, 4), float(k)))
            assert (found == k).all(), (k, found)
            del found
        stats = store.stats()
        assert stats.hits + stats.computed == 150 and stats.disk > 0 and stats.damaged == 0, stats
        """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    runs = [
        subprocess.Popen([*command, str(i), str(tmp_path)], cwd=HERE, stderr=subprocess.PIPE, text=True)
        for i in range(3)
    ]
    said = [run.communicate(timeout=120)[1] for run in runs]
    assert [run.returncode for run in runs] == [0] * 3, said
    assert 0 < sum(p.stat().st_size for p in entries(tmp_path)) <= 3 * 17_000
    assert list(tmp_path.rglob("*.part")) == []


# ---- the model it hangs on -------------------------------------------------------------------------------------------


def test_a_copy_of_the_model_shares_the_store(stored: Any, prompt: Prompt) -> None:
    held = media_features(stored, own := again(prompt), "video")
    twin = copy.deepcopy(stored)
    assert twin.feature_store is stored.feature_store
    assert media_features(twin, again(prompt), "video") is held
    assert own.features["video"] is held
    assert counts(stored.feature_store) == (1, 0, 1)


def test_a_store_can_be_sent_to_another_process(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, 10**9)
    features = store.get("a", CPU, ones)
    sent = pickle.loads(pickle.dumps(store))
    assert sent.folder == store.folder
    assert same_bits(sent.get("a", CPU, lambda: pytest.fail("computed again")), features)


def test_the_model_saves_as_without_a_store(stored: Any, tmp_path: Path) -> None:
    def saved(name: str) -> dict[str, bytes]:
        stored.save_pretrained(tmp_path / name)
        return {p.name: p.read_bytes() for p in (tmp_path / name).iterdir()}

    with_store = saved("with")
    stored.feature_store = None
    assert with_store == saved("without")
