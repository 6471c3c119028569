from pathlib import Path

import pytest

from avst.word_vectors import WordVectors
from rewards.object import object_reward
from tests.rewards.asking import ask


def named(*names: str) -> str:
    return "".join(f"<object>{name}</object>" for name in names)


@pytest.mark.parametrize(
    ("said", "gold", "expected"),
    [
        (["A man"], ["man"], 1.0),
        (["dog"], ["man"], 0.0),
        (["man", "dog"], ["man"], 2 / 3),
        (["man", "man"], ["a man", "the man", "dog"], 4 / 5),
        (["man", "man"], ["man"], 2 / 3),
        ([""], ["man"], 0.0),
        (["man", ""], ["man"], 2 / 3),
        (["man, dog"], ["dog", "man"], 1.0),
        ([], ["man"], 0.0),
        (["man"] + [f"thing {i}" for i in range(20)], ["man"], 2 / 22),
    ],
)
def test_share_of_pairs(said: list[str], gold: list[str], expected: float) -> None:
    assert ask(object_reward, named(*said), named(*gold), "spatial") == pytest.approx(expected)
    assert ask(object_reward, named(*said), named(*gold), "st") == pytest.approx(expected)
    assert ask(object_reward, named(*said), named(*gold), "temporal") is None


def test_near_names_count_from_tau_on(shared_data: Path) -> None:
    path = shared_data / "r_avst_train_object_vectors_googlenews300.bin"
    near = WordVectors.load(path, tau=0.75)
    similarity = near.similarity("dogs", "dog")
    assert 0.75 < similarity < 1
    heard: list[str] = []
    assert (
        ask(object_reward, named("dogs"), named("dog"), "st", near, reasons=lambda i, text: heard.append(text)) == 1.0
    )
    assert heard == [f"predicted 'dogs' ~ gold 'dog' {similarity:.2f} >= 0.75; 2·1 of 1+1"]
    assert ask(object_reward, named("dogs"), named("dog"), "st", WordVectors.load(path, tau=similarity)) == 1.0
    assert ask(object_reward, named("dogs"), named("dog"), "st", WordVectors.load(path, tau=0.99)) == 0.0


def test_reasons_tell_what_is_missing() -> None:
    heard: list[str] = []
    ask(object_reward, named("man", "sky"), named("man", "dog"), "st", reasons=lambda i, text: heard.append(text))
    assert heard == [
        "predicted 'man' ~ gold 'man' 1.00 >= 0.75, gold 'dog' unmatched, 1 predicted unmatched "
        "(first: 'sky'); 2·1 of 2+2"
    ]
