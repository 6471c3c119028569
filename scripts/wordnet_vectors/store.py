"""The file that avst/word_vectors/embedded.py reads: plain arrays in .npz, no pickle."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from avst.word_vectors.embedded import Mixture
from avst.word_vectors.forms import PARTS
from scripts.wordnet_vectors.vocabulary import Senses
from scripts.wordnet_vectors.wordnet import SynsetId, WordNet

_YOUNG = re.compile(r"(?:an? |the )?young (?:of )?(?:an? )?((?:[a-z]+ ?){1,3})")


def exceptions_of(wordnet: WordNet, words: Sequence[str]) -> list[str]:
    """ "form place" for the irregular forms of the words ("children" of "child") that are no words themselves."""
    row = {word: i for i, word in enumerate(words)}
    found: dict[str, int] = {}
    for number, part in enumerate(PARTS, 1):
        for form, lemmas in wordnet.exceptions[part].items():
            lemma = next((lemma for lemma in lemmas if lemma in row), None)
            if lemma is not None and form.isascii() and form.isalpha() and form not in row:
                found.setdefault(form, row[lemma] + len(words) * number)
    return [f"{form} {place}" for form, place in sorted(found.items())]


def young_of(wordnet: WordNet, senses: Senses, words: Sequence[str]) -> np.ndarray:
    """int32 (k, 2): rows of words whose likeliest sense is explained as "young dog", and of the grown animal."""
    row = {word: i for i, word in enumerate(words)}
    animal = next(s for s, v in wordnet.synsets.items() if s.part == "n" and v.words[:2] == ("animal", "animate_being"))

    def is_animal(synset: SynsetId) -> bool:
        for _ in range(20):
            above = [p.synset for p in wordnet.synsets[synset].pointers if p.symbol == "@"]
            if synset == animal or not above:
                break
            synset = above[0]
        return synset == animal

    kin = []
    for word in words:
        likeliest = max(senses.get(word, ()), key=lambda sense: sense[1], default=None)
        told = likeliest and _YOUNG.match(wordnet.synsets[likeliest[0]].gloss)
        for other in told[1].split() if told else ():
            grown = wordnet.senses.get((other, "n"))
            if grown and is_animal(grown[0]) and other in row and other != word:
                kin.append((row[word], row[other]))
                break
    return np.array(kin, dtype=np.int32).reshape(-1, 2)


def write(
    path: Path,
    words: Sequence[str],
    meaning: np.ndarray,
    lengths: np.ndarray,
    kin: np.ndarray,
    exceptions: Sequence[str],
    mixture: Mixture,
) -> None:
    """The same bytes for the same arrays: no dates in the archive."""
    arrays = {
        "words": np.frombuffer("\n".join(words).encode("ascii"), dtype=np.uint8),
        "meaning": meaning,
        "lengths": lengths.astype(np.float16),
        "kin": kin,
        "exceptions": np.frombuffer("\n".join(exceptions).encode("ascii"), dtype=np.uint8),
        "mixture": np.array(mixture, dtype=np.float64),
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, array, allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0)), content.getvalue())
