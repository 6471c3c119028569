"""Recipes and word vectors are read as data, within bounds. Tags, aliases and keys: tests/test_config.py; formats of
vectors: tests/test_word_vectors.py."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from avst.config import Recipe, load_recipe
from avst.errors import AvstError
from avst.word_vectors import WordVectors
from avst.word_vectors.embedded import EmbeddedVectors
from avst.word_vectors.word_index import index_places
from tests.security.canary import Canary

BASE = "name: a\nmodel: {path: nowhere}\n"


def read(text: str, folder: Path, *overrides: str) -> Recipe:
    (folder / "a.yaml").write_text(text)
    return load_recipe(folder / "a.yaml", overrides)


@pytest.mark.parametrize("tag", ["object/apply:os.system", "object/new:os.system", "name:os.system", "module:sly"])
def test_yaml_runs_nothing(tag: str, tmp_path: Path, canary: Canary, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sly.py").write_text(canary.code())
    monkeypatch.syspath_prepend(tmp_path)
    sly = f'!!python/{tag} ["{canary.shell()}"]' if "object" in tag else f"!!python/{tag} ''"
    with pytest.raises(AvstError):
        read(BASE + f"license: {sly}\n", tmp_path)
    with pytest.raises(AvstError):
        read(BASE, tmp_path, f"license={sly}")
    assert not canary.dead


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("grpo: " + "[" * 5000 + "]" * 5000, "nested too deep"),
        ("seed: " + "9" * 10_000, "Exceeds the limit"),
        ("seed: " + "9" * 100, "expected at most 4294967295"),
        ("license: !!int abc", "not valid YAML"),
        ("license: !!bool abc", "not valid YAML"),
        ("license: !!timestamp 2001-13-45", "not valid YAML"),
        ('data: {videos: "a\\0b"}', "a control character"),
        ('data: {train: ["a\\eb"]}', "a control character"),
    ],
)
def test_damaged_and_hostile_yaml_is_one_line(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(AvstError, match=words) as error:
        read(BASE + text, tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("url", ["https://host/x", "HTTP://host/x", "file:///etc/passwd", "s3://bucket/x", "hf://a/b"])
@pytest.mark.parametrize(
    ("key", "form"),
    [
        ("data.videos", "{}"),
        ("data.train", "[{}]"),
        ("data.eval", "{}"),
        ("model.path", "{}"),
        ("word_vectors.path", "{}"),
        ("output_dir", "{}"),
    ],
)
def test_a_url_is_no_file(url: str, key: str, form: str, tmp_path: Path) -> None:
    with pytest.raises(AvstError, match=rf"{key} is .*refused, avst fetches nothing"):
        read(BASE, tmp_path, f"{key}={form.format(url)}")


def test_a_password_in_a_url_is_not_said_again(tmp_path: Path) -> None:
    with pytest.raises(AvstError) as error:
        read(BASE, tmp_path, "data.videos=https://me:canary@host/x")
    assert "canary" not in str(error.value)


def array_of(canary: Canary) -> np.ndarray:
    return np.array([canary.pickled()], dtype=object)


def test_pickles_in_numpy_files_are_not_opened(tmp_path: Path, canary: Canary) -> None:
    np.savez(tmp_path / "a.npz", meaning=array_of(canary))
    with pytest.raises(AvstError, match="damaged word vectors"):
        EmbeddedVectors(tmp_path / "a.npz")
    assert not canary.dead


def test_a_sly_index_beside_vectors_is_made_anew(
    tmp_path: Path, canary: Canary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("avst.word_vectors.word_index.SMALL_BYTES", 0)
    file = tmp_path / "v.bin"
    file.write_bytes(b"2 2\ndog " + np.float32([1, 0]).tobytes() + b"cat " + np.float32([0.6, 0.8]).tobytes())
    index = index_places(file)[0]
    np.save(index, array_of(canary), allow_pickle=True)
    assert WordVectors.load(file).similarity("dog", "cat") == pytest.approx(0.6)
    assert not canary.dead
    assert np.load(index).dtype == np.uint64


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("v.gz", gzip.compress(b"3000000 300\ndog " + b"\0" * 1200), "shorter than its 3000000 words"),
        ("v.gz", gzip.compress(b"999999999 2\ndog 0 0\n"), "shorter than its 999999999 words"),
        ("v.gz", gzip.compress(b"9 2\ndog " + b"\0" * 30_000_000), "unpacks to more than 100 times its size"),
        ("v.gz", gzip.compress(b"1 2\ndog 0 0\n" + b"a" * 30_000_000), "a line of more than"),
        ("v.txt", b"1 2\ndog 1 2\n" + b"a" * 100_000, "a line of more than"),
    ],
    ids=["binary, too short", "text, too short", "a bomb", "a packed line", "a line"],
)
def test_vectors_take_no_more_memory_than_they_hold(
    name: str, content: bytes, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Headers that lie, bombs and endless lines are found before gensim, which believes them, is asked."""
    import gensim

    monkeypatch.setattr(
        gensim.models.KeyedVectors, "load_word2vec_format", lambda *a, **k: pytest.fail("gensim was asked")
    )
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AvstError, match=words):
        WordVectors.load(tmp_path / name)
