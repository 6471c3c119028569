"""Mapped word vectors: every vector is the one that gensim reads in the same file, whatever became of the index."""

from __future__ import annotations

import json
import logging
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from gensim.models import KeyedVectors
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from avst.cli import parse
from avst.commands.score import make_scorer
from avst.config import load_recipe
from avst.errors import AvstError
from avst.word_vectors import GensimVectors, WordVectors, mapped, word_index
from avst.word_vectors.mapped import MappedVectors
from avst.word_vectors.word_index import index_places

# Anything but a space, which ends a word, and newlines at its start, which are taken off. No lone surrogates.
WORDS = st.text(st.characters(exclude_characters=" ", exclude_categories=["Cs"]), min_size=1, max_size=12).filter(
    lambda word: not word.startswith("\n")
)


def write(path: Path, words: list[bytes], vectors: np.ndarray, between: bytes = b"") -> Path:
    rows = [word + b" " + row.astype("<f4").tobytes() + between for word, row in zip(words, vectors, strict=True)]
    path.write_bytes(f"{len(words)} {vectors.shape[1]}\n".encode() + b"".join(rows))
    return path


def sample(path: Path, n: int = 50, dimensions: int = 3, seed: int = 0) -> Path:
    vectors = np.random.default_rng(seed).standard_normal((n, dimensions))
    return write(path, [f"word{i}".encode() for i in range(n)], vectors)


def assert_is_gensims(path: Path, absent: tuple[str, ...] = ("absent", "", "a b", "\udc80", "\nword1")) -> None:
    theirs = KeyedVectors.load_word2vec_format(str(path), binary=True)
    words = list(theirs.key_to_index)
    ours = MappedVectors(path)
    places = ours.find([*words, *absent])
    assert places.keys() == {word for word in [*words, *absent] if word in theirs.key_to_index}
    assert ours.dimensions == theirs.vector_size
    expected = theirs.vectors[[theirs.key_to_index[word] for word in words]]
    assert ours.rows([places[word] for word in words]).tobytes() == expected.tobytes()  # NaN is NaN, bit by bit


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Indexes are kept for small files too; the user's cache folder is this one."""
    monkeypatch.setattr(word_index, "SMALL_BYTES", 0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(words=["é", "\0", "a\nb", "\u2028", "日本", "a", "a"], dimensions=2, between=b"\n", seed=0)
@given(st.lists(WORDS, min_size=1, max_size=30), st.integers(1, 9), st.sampled_from([b"", b"\n"]), st.integers(0, 99))
def test_every_vector_is_gensims(tmp_path: Path, words: list[str], dimensions: int, between: bytes, seed: int) -> None:
    """Any words, equal ones among them, and any bits as numbers: zeros, NaN, spaces and newlines inside vectors."""
    bits = np.random.default_rng(seed).integers(0, 256, (len(words), 4 * dimensions), dtype=np.uint8)
    bits[seed % len(words)] = (0, 32, 10, 255)[seed % 4]
    assert_is_gensims(write(tmp_path / "v.bin", [w.encode() for w in words], bits.view("<f4"), between))


def test_every_vector_of_the_real_file_is_gensims(shared_data: Path) -> None:
    assert_is_gensims(shared_data / "r_avst_train_object_vectors_googlenews300.bin")


def test_what_gensim_writes_and_more_than_a_chunk_of_it(tmp_path: Path, kept: Path) -> None:
    theirs = KeyedVectors(vector_size=50)
    theirs.add_vectors([f"w{i}" for i in range(3000)], np.random.default_rng(0).standard_normal((3000, 50)))
    theirs.save_word2vec_format(str(tmp_path / "v.bin"), binary=True)
    assert_is_gensims(tmp_path / "v.bin")
    assert_is_gensims(tmp_path / "v.bin")  # now by the index that was kept
    assert index_places(tmp_path / "v.bin")[0].is_file()


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.sampled_from(["word1", "word7", "Word1", "the", "!", "far"]), max_size=3), max_size=6))
def test_similarities_are_those_of_vectors_in_memory(tmp_path: Path, names: list[list[str]]) -> None:
    path = sample(tmp_path / "v.bin")
    written = [" ".join(words) for words in names]
    fast, plain = (WordVectors.load(path, mapped=way) for way in (True, False))
    assert isinstance(fast.source, MappedVectors)
    assert isinstance(plain.source, GensimVectors)
    for ours, theirs in zip(
        fast.similarities(written, ["word1 word2", "the"]),
        plain.similarities(written, ["word1 word2", "the"]),
        strict=True,
    ):
        assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("keep", [True, False])
def test_equal_hashes_never_give_a_wrong_vector(
    tmp_path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch, keep: bool
) -> None:
    for module in (mapped, word_index):
        monkeypatch.setattr(module, "hashes_of", lambda words: np.array([len(w) % 2 for w in words], dtype=np.uint64))
    monkeypatch.setattr(word_index, "SMALL_BYTES", 0 if keep else 1 << 30)
    path = write(tmp_path / "v.bin", [b"aa", b"b", b"aa", b"cc", b"a"], np.arange(10).reshape(5, 2))
    for _ in range(2):
        assert_is_gensims(path, absent=("dd", "d", "aaa", "aa "))


def test_a_file_that_changed_is_looked_through_again(tmp_path: Path, kept: Path) -> None:
    path = sample(tmp_path / "v.bin")
    before = MappedVectors(path)
    row = before.rows(list(before.find(["word7"]).values()))
    names = [f"word{i}".encode() for i in reversed(range(50))]  # as long as before, and other words in other places
    replacement = write(tmp_path / "new.bin", names, np.random.default_rng(1).standard_normal((50, 3)))
    os.replace(replacement, path)
    assert_is_gensims(path)
    assert np.array_equal(before.rows(list(before.find(["word7"]).values())), row)  # who had it open keeps the old file


def test_the_index_belongs_to_time_and_size_and_both_ends(tmp_path: Path, kept: Path) -> None:
    path = sample(tmp_path / "v.bin")
    MappedVectors(path)
    place = index_places(path)[0]
    first = place.stat().st_mtime_ns, place.stat().st_ino
    MappedVectors(path)
    assert (place.stat().st_mtime_ns, place.stat().st_ino) == first  # found, not made again
    found = path.stat()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    MappedVectors(path)
    second = place.stat().st_ino
    assert second != first[1]
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns + 1))
    MappedVectors(path)
    assert place.stat().st_ino != second


@pytest.mark.parametrize("damage", ["empty", "text", "short", "pickle", "shape"])
def test_a_damaged_index_is_made_again(tmp_path: Path, kept: Path, damage: str) -> None:
    path = sample(tmp_path / "v.bin")
    MappedVectors(path)
    place = index_places(path)[0]
    whole = place.read_bytes()
    if damage == "pickle":
        np.save(place, np.array([pytest.fail], dtype=object), allow_pickle=True)
    elif damage == "shape":
        np.save(place, np.load(place)[:, :-1])
    else:
        place.write_bytes({"empty": b"", "text": b"index", "short": whole[:-8]}[damage])
    assert_is_gensims(path)
    assert place.read_bytes() == whole


def test_an_index_that_points_elsewhere_gives_no_vector(tmp_path: Path, kept: Path) -> None:
    path = sample(tmp_path / "v.bin")
    place = index_places(path)[0]
    for offset in (3, path.stat().st_size - 4, 2**63):
        MappedVectors(path)
        index = np.load(place)
        index[1, 1:] = offset
        np.save(place, index)
        assert MappedVectors(path).find(["word1", "word2"]) == {}
        place.unlink()


def test_it_is_kept_beside_the_file_else_in_the_cache_folder_else_nowhere(
    tmp_path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = sample(tmp_path / "v.bin")
    beside, cached = index_places(path)
    assert beside == tmp_path / "v.bin.index.npy"
    assert cached.parent == kept / "avst" / "word_vectors"
    refused = [beside]
    replacing = word_index.replacing

    def refuse(place: Path):  # the tests may run as a user whom no folder's mode stops
        if place in refused:
            raise PermissionError(13, "Permission denied", str(place))
        return replacing(place)

    monkeypatch.setattr(word_index, "replacing", refuse)
    assert_is_gensims(path)
    assert not beside.exists()
    assert cached.is_file()
    assert_is_gensims(path)
    cached.unlink()
    refused.append(cached)
    with caplog.at_level(logging.WARNING):
        assert_is_gensims(path)
    assert not beside.exists()
    assert not cached.exists()
    assert "every process makes its own" in caplog.text
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and p != path]  # nothing half-written is left


def test_small_files_have_no_index_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert_is_gensims(sample(tmp_path / "v.bin"))
    assert [p.name for p in tmp_path.iterdir()] == ["v.bin"]


def test_without_a_cache_variable_it_is_the_users_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for unset in (None, "", "relative"):
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        if unset is not None:
            monkeypatch.setenv("XDG_CACHE_HOME", unset)
        assert index_places(tmp_path / "v.bin")[1].parent == tmp_path / ".cache" / "avst" / "word_vectors"


READ = """
import json, sys
from pathlib import Path
from avst.word_vectors import word_index
from avst.word_vectors.mapped import MappedVectors
word_index.SMALL_BYTES = 0
print("ready", flush=True)
sys.stdin.readline()
vectors = MappedVectors(Path(sys.argv[1]))
places = vectors.find([f"word{i}" for i in range(20_000)])
print(json.dumps([len(places), vectors.rows(list(places.values())).tobytes().hex()[:4000]]), flush=True)
"""


def test_several_processes_may_make_the_index_at_once(tmp_path: Path, kept: Path) -> None:
    path = sample(tmp_path / "v.bin", n=20_000)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    readers = [subprocess.Popen([sys.executable, "-c", READ, str(path)], **pipes) for _ in range(4)]
    for reader in readers:
        assert reader.stdout.readline() == "ready\n"
    for reader in readers:
        reader.stdin.write("go\n")
        reader.stdin.flush()
    answers = [json.loads(reader.communicate()[0]) for reader in readers]
    expected = KeyedVectors.load_word2vec_format(str(path), binary=True).vectors.tobytes().hex()[:4000]
    assert answers == [[20_000, expected]] * 4
    assert sorted(p.name for p in tmp_path.iterdir()) == ["v.bin", "v.bin.index.npy"]
    assert_is_gensims(path)


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("lost", [1, 4, 11, 40])
def test_a_truncated_file_is_one_clear_line(
    tmp_path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch, lost: int, keep: bool
) -> None:
    monkeypatch.setattr(word_index, "SMALL_BYTES", 0 if keep else 1 << 30)
    path = sample(tmp_path / "v.bin")
    MappedVectors(path)  # an index of the whole file is there
    path.write_bytes(path.read_bytes()[:-lost])
    with pytest.raises(AvstError, match=r"damaged word2vec file: it ends after 4[0-9] of its 50 words") as caught:
        WordVectors.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_words_that_are_no_text_are_refused_as_gensim_does(tmp_path: Path) -> None:
    path = write(tmp_path / "v.bin", [b"caf\xe9", b"cat"], np.ones((2, 2)))
    for way in (True, False):
        with pytest.raises(AvstError, match=r"damaged word2vec file: .*utf-8"):
            WordVectors.load(path, mapped=way)


def test_vectors_that_are_zero_or_not_finite(tmp_path: Path) -> None:
    vectors = np.array([[1.0, 0.0], [0.0, 0.0], [np.nan, 1.0], [np.inf, 1.0]])
    words = WordVectors.load(write(tmp_path / "v.bin", [b"cat", b"void", b"odd", b"endless"], vectors))
    assert words.similarity("void", "cat") == 0.0
    for name in ("odd", "endless"):
        with pytest.raises(AvstError, match=rf"v.bin: the vector of a word in '{name}' is not finite"):
            words.similarity(name, "cat")


def test_a_copy_for_another_process_maps_the_file_itself(tmp_path: Path) -> None:
    words = WordVectors.load(sample(tmp_path / "v.bin"), tau=0.6)
    sent = pickle.dumps(words)
    assert len(sent) < 1000
    assert pickle.loads(sent).similarity("word1", "word2") == words.similarity("word1", "word2")


@pytest.mark.parametrize("written", ["mapped: true", "mapped: false"])
def test_a_recipe_turns_it_off(tmp_path: Path, written: str) -> None:
    sample(tmp_path / "v.bin")
    recipe = "model: {path: m}\ndata: {train: t.json, videos: v}\n"
    (tmp_path / "r.yaml").write_text(f"{recipe}word_vectors: {{path: v.bin, tau: 0.5, {written}}}\n")
    files = ["--annotations", "a.json", "--predictions", "p.jsonl", "--out", "s.json"]
    args = parse(["score", *files, "--recipe", str(tmp_path / "r.yaml")])
    scorer = make_scorer(args, load_recipe(args.recipe))
    assert isinstance(scorer.word_vectors.source, MappedVectors if "true" in written else GensimVectors)
    assert scorer.word_vectors.tau == 0.5


def test_tau_is_the_sources_own_unless_said_otherwise(tmp_path: Path) -> None:
    source = MappedVectors(sample(tmp_path / "v.bin"))
    assert WordVectors(source).tau == 0.75
    source.tau = 0.4  # as a source of another kind would have it
    assert WordVectors(source).tau == 0.4
    assert WordVectors(source, 0.5).tau == 0.5
