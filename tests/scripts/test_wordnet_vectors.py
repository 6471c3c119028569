"""The steps from WordNet's files to vectors, on a WordNet of four synsets written here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from avst.errors import AvstError
from avst.word_vectors.forms import lemmas_of
from scripts.wordnet_vectors.judge import SAME, scores_of
from scripts.wordnet_vectors.relations import RelationOptions, Relations, reduce
from scripts.wordnet_vectors.sentences import Graph, gloss_sentences
from scripts.wordnet_vectors.shape import ShapeOptions, join, lengths, whiten
from scripts.wordnet_vectors.store import exceptions_of
from scripts.wordnet_vectors.vocabulary import choose_words, read_glosses, spelled, word_counts, word_senses
from scripts.wordnet_vectors.wordnet import Pointer, SynsetId, WordNet, read_wordnet

LICENCE = "  1 This software and database is being provided\n"
FILES = {
    "data.noun": "00000001 03 n 01 physical_entity 0 002 ~ 00000002 n 0000 ~ 00000004 n 0000 | that which is there  \n"
    '00000002 05 n 02 dog 0 domestic_dog 0 002 @ 00000001 n 0000 ~ 00000003 n 0000 | an animal; "the dogs barked"  \n'
    "00000003 05 n 01 puppy 0 001 @ 00000002 n 0000 | a young dog  \n"
    "00000004 07 n 01 chromatic_color 0 001 @ 00000001 n 0000 | red, say  \n",
    "data.verb": "00000009 38 v 01 dog 0 001 @ 00000009 v 0000 01 + 08 00 | go after  \n",
    "data.adj": "00000007 00 s 01 doggy(p) 0 001 + 00000002 n 0101 | like a dog  \n",
    "data.adv": "",
    "index.noun": "dog n 1 2 @ ~ 1 1 00000002  \npuppy n 1 1 @ 1 0 00000003  \n",
    "index.verb": "dog v 1 1 @ 1 0 00000009  \n",
    "index.adj": "doggy a 1 1 + 1 0 00000007  \n",
    "index.adv": "",
    "noun.exc": "doggen dog\n",
    **{"verb.exc": "", "adj.exc": "", "adv.exc": ""},
    "cntlist.rev": "dog%1:05:00:: 1 42\n",
}
DOG, PUPPY, CHASE = SynsetId("n", 2), SynsetId("n", 3), SynsetId("v", 9)


@pytest.fixture
def wordnet(tmp_path: Path) -> WordNet:
    for name, content in FILES.items():
        (tmp_path / name).write_text(LICENCE + content, encoding="utf-8")
    return read_wordnet(tmp_path)


def test_the_files_are_read(wordnet: WordNet) -> None:
    assert wordnet.synsets[DOG].words == ("dog", "domestic_dog")
    assert wordnet.synsets[DOG].pointers[1] == Pointer("~", PUPPY, 0, 0)
    assert wordnet.synsets[SynsetId("a", 7)].words == ("doggy",)
    assert wordnet.synsets[SynsetId("a", 7)].pointers == (Pointer("+", DOG, 1, 1),)
    assert wordnet.senses["dog", "n"] == (DOG,)
    assert wordnet.tagged == {("dog", "n"): (42,)}
    assert wordnet.exceptions["n"] == {"doggen": ("dog",)}


def test_missing_and_damaged_files_are_one_line(tmp_path: Path, wordnet: WordNet) -> None:
    with pytest.raises(AvstError, match="not WordNet's files"):
        read_wordnet(tmp_path / "elsewhere")
    (tmp_path / "data.noun").write_text("nonsense\n", encoding="utf-8")
    with pytest.raises(AvstError, match="damaged"):
        read_wordnet(tmp_path)


def test_senses_are_as_likely_as_they_were_tagged(wordnet: WordNet) -> None:
    """42 + 1 for the noun, 0 + 1 for the verb."""
    assert word_senses(wordnet)["dog"] == [(DOG, pytest.approx(43 / 44)), (CHASE, pytest.approx(1 / 44))]


def test_counts_are_of_glosses_and_tags(wordnet: WordNet) -> None:
    glosses = read_glosses(wordnet)
    assert glosses[DOG] == ["an", "animal", "the", "dog", "barked"]
    assert word_counts(wordnet, glosses)["dog"] == 3 + 5 * 42  # in three glosses


def test_walks_keep_to_the_graph_and_are_the_same_again(wordnet: WordNet) -> None:
    senses = word_senses(wordnet)
    words = [word for word in choose_words(wordnet, senses, {}, 100) if word in senses]
    assert words == ["dog", "doggy", "puppy"]
    walks = list(Graph(wordnet, senses, words).walks(200, seed=3))
    assert walks == list(Graph(wordnet, senses, words).walks(200, seed=3))
    assert {word for walk in walks for word in walk} == {"dog", "doggy", "puppy"}
    assert all(len(walk) > 1 for walk in walks)


def test_a_gloss_is_a_sentence_for_each_of_its_words(wordnet: WordNet) -> None:
    sentences = gloss_sentences(wordnet, {DOG: ["an", "animal"]}, frozenset({"an"}))
    assert sentences == [["dog", "animal"], ["domestic", "dog", "animal"]]


def test_relations_make_a_puppy_more_a_dog_than_a_colour(wordnet: WordNet) -> None:
    rows = Relations(wordnet, word_senses(wordnet)).rows(["dog", "puppy", "doggy", "unknown"], RelationOptions())
    cosines = (rows @ rows.T).toarray()
    assert np.diag(cosines) == pytest.approx([1, 1, 1, 0])
    assert cosines[0, 1] > 0.5
    weights = np.ones(4)
    dense = reduce(rows, 3, weights, seed=0)
    assert dense @ dense.T == pytest.approx(cosines, abs=0.2)


def test_shapes() -> None:
    draw = np.random.default_rng(0)
    vectors = draw.standard_normal((500, 6)) * [9, 1, 1, 1, 1, 1] + 5
    white = whiten(vectors, 1.0)
    assert np.linalg.norm(white, axis=1) == pytest.approx(np.ones(500))
    spread = np.linalg.eigvalsh(white.T @ white / 500)
    assert spread.max() / spread.min() < 1.5
    meaning = join(vectors, vectors, 4, np.ones(500), ShapeOptions())
    assert (meaning.dtype, meaning.shape) == (np.int8, (500, 4))
    assert np.linalg.norm(meaning / 127, axis=1).max() <= 1.02  # shorter than 1, but for rounding
    rare, common, function = lengths(["dog", "man", "with"], {"man": 1000.0, "with": 1000.0}, ShapeOptions())
    assert rare == 1.0
    assert rare > common > function


def test_irregular_forms_point_to_their_lemma_with_the_kind_of_form(wordnet: WordNet) -> None:
    assert exceptions_of(wordnet, ["cat", "dog"]) == [f"doggen {1 + 2 * 1}"]


@pytest.mark.parametrize(
    ("form", "lemma"),
    [
        *(
            ("puppies", ("puppy", "n")),
            ("boxes", ("box", "n")),
            ("firemen", ("fireman", "n")),
            ("wolves", ("wolf", "n")),
        ),
        *(("running", ("run", "v")), ("chased", ("chase", "v")), ("larger", ("large", "a"))),
    ],
)
def test_lemmas(form: str, lemma: tuple[str, str]) -> None:
    assert lemma in set(lemmas_of(form))


def test_names_are_spelled_as_they_are_compared() -> None:
    assert [spelled(word) for word in ("T-shirt", "Canis_familiaris", "o'clock")] == [
        "t shirt",
        "canis familiaris",
        "oclock",
    ]


def test_f1_by_hand() -> None:
    """Of 2 positive pairs 1 is found, of 2 hard ones 1, of 2 easy ones none: 2 · 0.5 / (0.5 + 1 + 0.5 + 0)."""
    google = np.eye(4)
    same = np.zeros((4, 4), dtype=bool)
    for (i, j), cosine, said in zip(
        [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)],
        [SAME, 0.9, 0.6, 0.7, 0.1, 0.2],
        [True, False, True, False, False, False],
        strict=True,
    ):
        google[i, j] = google[j, i] = cosine
        same[i, j] = same[j, i] = said
    scores = scores_of(same, google)
    assert scores == (pytest.approx(0.5), 0.5, 0.5, 0.0)
