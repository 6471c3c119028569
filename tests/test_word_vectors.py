"""Names and their similarity, against gensim's own cosine and hand-made vectors."""

from __future__ import annotations

import gzip
import pickle
from pathlib import Path

import numpy as np
import pytest
from gensim.models import KeyedVectors

from avst.errors import AvstError
from avst.word_vectors import EQUAL_NAMES, GensimVectors, WordVectors, normalise

WORDS = {"cat": (1.0, 0.0), "kitten": (0.9, 0.1), "dog": (0.0, 1.0), "black": (1.0, 1.0), "void": (0.0, 0.0)}


@pytest.fixture
def made() -> KeyedVectors:
    vectors = KeyedVectors(vector_size=2)
    vectors.add_vectors(list(WORDS), np.array(list(WORDS.values()), dtype=np.float32))
    return vectors


@pytest.fixture(scope="module")
def real(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue("shared_data") / "r_avst_train_object_vectors_googlenews300.bin"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("The man's T-shirt", "mans t shirt"),
        ("A man in a suit & tie.", "man in suit tie"),
        ("children’s  choir", "childrens choir"),
        ("1. cars", "1 cars"),
        ("- dark, cloudy sky", "dark cloudy sky"),
        ("snare_drum", "snare drum"),
        ("an", ""),
        ("?!", ""),
        ("ÉLAN vital", "élan vital"),
        ("theatre", "theatre"),
    ],
)
def test_normalise(name: str, expected: str) -> None:
    assert normalise(name) == expected


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_similarity_is_the_cosine_of_averaged_in_vocabulary_words(made: KeyedVectors) -> None:
    words = WordVectors(GensimVectors(made))
    assert words.similarity("a cat", "Kitten") == pytest.approx(cosine(made["cat"], made["kitten"]), abs=1e-6)
    mean = (made["black"] + made["cat"]) / 2
    assert words.similarity("the black cat", "dog") == pytest.approx(cosine(mean, made["dog"]), abs=1e-6)
    assert words.similarity("unheard-of cat", "dog") == pytest.approx(0.0)
    assert words.similarity("unheard-of cat", "cat") == pytest.approx(1.0)
    assert words.similarity("cat", "zebra") == 0.0  # no vector
    assert words.similarity("void", "cat") == 0.0  # a zero vector is none
    assert words.similarity("zebra", "A zebra!") == 1.0  # equal names need no vector
    assert words.similarity("the", "The") == 1.0  # nothing is left of it, yet it is the same name
    assert words.similarity("the", "?") == 0.0
    assert words.similarity("", "") == 0.0
    assert words.similarity(" ", "cat") == 0.0


def test_without_vectors_only_equal_names_are_alike() -> None:
    words = WordVectors.load(EQUAL_NAMES)
    assert words.tau == 0.75
    assert words.similarity("The dog", "dog") == 1.0
    assert words.similarity("dog", "dogs") == 0.0


def test_a_table_of_names_is_the_pairs_one_by_one(made: KeyedVectors) -> None:
    words = WordVectors(GensimVectors(made))
    left, right = ["cat", "", "black dog", "cat", "zebra", "the", "void"], ["kitten", "dog", "the", "", "Cat"]
    similarity, equal = words.similarities(left, right)
    assert similarity == pytest.approx(np.array([[words.similarity(a, b) for b in right] for a in left]))
    assert {(left[i], right[j]) for i, j in np.argwhere(equal)} == {("cat", "Cat"), ("the", "the")}


@pytest.mark.parametrize("mapped", [True, False])
def test_real_vectors_agree_with_gensim(real: Path, mapped: bool) -> None:
    words = WordVectors.load(real, tau=0.75, mapped=mapped)
    gensims = KeyedVectors.load_word2vec_format(str(real), binary=True)
    for a, b in (("man", "woman"), ("guitar", "trumpet"), ("car", "ambulance")):
        assert words.similarity(f"A {a}", b.upper()) == pytest.approx(float(gensims.similarity(a, b)), abs=1e-5)
    pair = gensims.get_mean_vector(["man", "street"], pre_normalize=False)
    assert words.similarity("man, street", "pedestrian") == pytest.approx(cosine(pair, gensims["pedestrian"]), abs=1e-5)


def test_both_formats_and_gzip_read_the_same(made: KeyedVectors, tmp_path: Path) -> None:
    made.save_word2vec_format(str(tmp_path / "v.bin"), binary=True)
    made.save_word2vec_format(str(tmp_path / "v.txt"), binary=False)
    (tmp_path / "v.bin.gz").write_bytes(gzip.compress((tmp_path / "v.bin").read_bytes()))
    for name in ("v.bin", "v.txt", "v.bin.gz"):
        words = WordVectors.load(tmp_path / name, tau=0.6)
        assert words.similarity("cat", "kitten") == pytest.approx(0.9 / np.hypot(0.9, 0.1), abs=1e-6), name
        assert words.tau == 0.6


class Bomb:
    def __reduce__(self) -> tuple:
        return (pytest.fail, ("a pickle was opened",))


@pytest.mark.parametrize("name", ["v.pkl", "v.bin", "v.txt", "v.npy"])
def test_pickles_are_refused_whatever_they_are_called(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(AvstError, match="not a word2vec file"):
        WordVectors.load(tmp_path / name)


def test_numpy_files_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.array([Bomb()], dtype=object), allow_pickle=True)
    with pytest.raises(AvstError, match="not a word2vec file"):
        WordVectors.load(tmp_path / "v.npy")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a word2vec file"),
        (b"two words\n", "not a word2vec file"),
        (b"999999999999 300\ncat ", "damaged"),
        (b"0 2\n", "0 words"),
        (b"2 2\ncat \x00\x00\x80\x3f\x00\x00\x00\x00", "damaged"),
        (b"2 2\ncat 1.0 0.0\ndog 1.0 x0.0\n", "damaged"),
    ],
)
def test_damaged_files_are_one_clear_line(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "v.bin"
    path.write_bytes(content)
    with pytest.raises(AvstError, match=message) as caught:
        WordVectors.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_absent_file_and_bad_tau(tmp_path: Path) -> None:
    with pytest.raises(AvstError, match="cannot read word vectors"):
        WordVectors.load(tmp_path / "none.bin")
    for tau in (0.0, -1.0, 1.5, float("nan")):
        with pytest.raises(AvstError, match="tau must be"):
            WordVectors.load(None, tau=tau)


def test_vectors_that_are_not_finite_are_named(made: KeyedVectors) -> None:
    made.vectors[made.key_to_index["cat"]] = np.nan
    with pytest.raises(AvstError, match="'cat' is not finite"):
        WordVectors(GensimVectors(made)).similarity("cat", "dog")
