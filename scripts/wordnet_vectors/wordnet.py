"""WordNet's dictionary files (wndb(5WN)) read into plain values. On Debian: package wordnet-base, /usr/share/wordnet.

data.POS      a synset a line: its words, its pointers to other synsets, its gloss
index.POS     a lemma a line: its synsets, the most frequent sense first
POS.exc       irregular forms: an inflected form and its lemmas
cntlist.rev   how often a sense was tagged in the concordance texts
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from avst.errors import AvstError

PARTS = {"n": "noun", "v": "verb", "a": "adj", "r": "adv"}
_PART_OF_NUMBER = {"1": "n", "2": "v", "3": "a", "4": "r", "5": "a"}  # 5: a satellite adjective


class SynsetId(NamedTuple):
    """Example: SynsetId("n", 2084071), the synset of "dog"."""

    part: str
    offset: int


class Pointer(NamedTuple):
    """One relation. source, target: which word of the two synsets it is between, from 1; 0, 0 for whole synsets.

    Example: Pointer("@", SynsetId("n", 2083346), 0, 0): a dog is a canine.
    """

    symbol: str
    synset: SynsetId
    source: int
    target: int


@dataclass(frozen=True, slots=True)
class Synset:
    """words: as written, spaces as _.  gloss: definition and examples, separated by semicolons."""

    words: tuple[str, ...]
    pointers: tuple[Pointer, ...]
    gloss: str


@dataclass(frozen=True, slots=True)
class WordNet:
    """synsets;  senses: (lemma, part) -> its synsets, the most frequent first;  exceptions: part -> form -> lemmas;
    tagged: (lemma, part) -> how often each sense was tagged, in the order of `senses`."""

    synsets: dict[SynsetId, Synset]
    senses: dict[tuple[str, str], tuple[SynsetId, ...]]
    exceptions: dict[str, dict[str, tuple[str, ...]]]
    tagged: dict[tuple[str, str], tuple[int, ...]]


def read_wordnet(folder: Path) -> WordNet:
    """All of WordNet. AvstError where a file is missing or is none of WordNet's."""
    try:
        synsets = {key: value for part in PARTS for key, value in _read_data(folder / f"data.{PARTS[part]}", part)}
        senses = {key: value for part in PARTS for key, value in _read_index(folder / f"index.{PARTS[part]}", part)}
        exceptions = {part: dict(_read_exceptions(folder / f"{PARTS[part]}.exc")) for part in PARTS}
        return WordNet(synsets, senses, exceptions, _read_counts(folder / "cntlist.rev", senses))
    except OSError as error:
        raise AvstError(f"{folder}: not WordNet's files (Debian: apt-get install wordnet-base): {error}") from error
    except (ValueError, IndexError) as error:
        raise AvstError(f"{folder}: damaged WordNet files: {error}") from error


def _lines(path: Path) -> Iterator[str]:
    """All lines but the licence, whose lines begin with spaces."""
    with path.open(encoding="utf-8", errors="replace") as file:
        yield from (line for line in file if not line.startswith("  "))


def _read_data(path: Path, part: str) -> Iterator[tuple[SynsetId, Synset]]:
    for line in _lines(path):
        fields, _, gloss = line.partition(" | ")
        field = fields.split()
        n_words = int(field[3], 16)
        words = tuple(
            word.partition("(")[0] for word in field[4 : 4 + 2 * n_words : 2]
        )  # "(p)": where an adjective stands
        at = 4 + 2 * n_words
        n_pointers = int(field[at])
        pointers = []
        for i in range(at + 1, at + 1 + 4 * n_pointers, 4):
            symbol, offset, other, between = field[i : i + 4]
            other = "a" if other == "s" else other
            pointers.append(Pointer(symbol, SynsetId(other, int(offset)), int(between[:2], 16), int(between[2:], 16)))
        yield SynsetId(part, int(field[0])), Synset(words, tuple(pointers), gloss.strip())


def _read_index(path: Path, part: str) -> Iterator[tuple[tuple[str, str], tuple[SynsetId, ...]]]:
    for line in _lines(path):
        field = line.split()
        n = int(field[2])
        yield (field[0], part), tuple(SynsetId(part, int(offset)) for offset in field[-n:])


def _read_exceptions(path: Path) -> Iterator[tuple[str, tuple[str, ...]]]:
    for line in _lines(path):
        form, *lemmas = line.split()
        yield form, tuple(lemmas)


def _read_counts(
    path: Path, senses: dict[tuple[str, str], tuple[SynsetId, ...]]
) -> dict[tuple[str, str], tuple[int, ...]]:
    counts: dict[tuple[str, str], list[int]] = defaultdict(list)
    for line in _lines(path):
        sense_key, number, tagged = line.split()
        lemma, _, rest = sense_key.partition("%")
        key = (lemma, _PART_OF_NUMBER[rest[0]])
        if key in senses and int(number) <= len(senses[key]):
            row = counts[key]
            row.extend([0] * (len(senses[key]) - len(row)))
            row[int(number) - 1] = int(tagged)
    return {key: tuple(row) for key, row in counts.items()}
