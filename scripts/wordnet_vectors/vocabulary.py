"""Which words get a vector, how likely each of their senses is, and how often they are used."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from functools import cache

from avst.word_vectors.forms import FUNCTION_WORDS, lemmas_of
from scripts.wordnet_vectors.wordnet import PARTS, SynsetId, WordNet

Senses = dict[str, list[tuple[SynsetId, float]]]
_TOKEN = re.compile(r"[a-z]+(?:'[a-z]+)?")
_TAGGED = 5.0  # a tagged word counts for so many of a gloss: choosing half
_TAXA = frozenset({"taxonomic_group", "biological_group"})


def spelled(word: str) -> str:
    """As avst.word_vectors.normalise spells it. Example: spelled("T-shirt") == "t shirt"."""
    return re.sub(r"[^a-z0-9 ]", "", re.sub(r"[_\-/.]", " ", word.lower())).strip()


def word_senses(wordnet: WordNet) -> Senses:
    """Lemma (with _) -> its synsets of all parts of speech, and how likely each is; the likelihoods sum to 1.

    Words with a hyphen stand without it too.
    """
    senses: dict[str, list[tuple[SynsetId, float]]] = defaultdict(list)
    for (lemma, part), synsets in wordnet.senses.items():
        tagged = wordnet.tagged.get((lemma, part), (0,) * len(synsets))
        senses[lemma] += [(s, n + 1.0 / (1 + i)) for i, (s, n) in enumerate(zip(synsets, tagged, strict=True))]
    likely = {lemma: [(s, w / sum(w for _, w in rows)) for s, w in rows] for lemma, rows in senses.items()}
    for lemma in [lemma for lemma in likely if "-" in lemma and "_" not in lemma]:
        likely.setdefault(lemma.replace("-", ""), likely[lemma])  # "gokart" for "go-kart"
    return likely


def read_glosses(wordnet: WordNet) -> dict[SynsetId, list[str]]:
    """Each synset's gloss, definition and examples, as lemmas."""
    known = {lemma for lemma, _ in wordnet.senses}
    exceptions = {form: lemmas[0] for part in PARTS for form, lemmas in wordnet.exceptions[part].items()}

    @cache
    def lemma(form: str) -> str:
        found = form if form in known else exceptions.get(form)
        return found or next((lemma for lemma, _ in lemmas_of(form) if lemma in known), form)

    return {
        key: [lemma(form.removesuffix("'s")) for form in _TOKEN.findall(synset.gloss.lower())]
        for key, synset in wordnet.synsets.items()
    }


def word_counts(wordnet: WordNet, glosses: dict[SynsetId, list[str]]) -> dict[str, float]:
    """How often words are used: in glosses, and in the texts whose senses were tagged."""
    counts: dict[str, float] = Counter(word for gloss in glosses.values() for word in gloss)
    for (lemma, _), tagged in wordnet.tagged.items():
        counts[lemma] = counts.get(lemma, 0.0) + _TAGGED * sum(tagged)
    return counts


def choose_words(wordnet: WordNet, senses: Senses, counts: dict[str, float], n: int) -> list[str]:
    """The n most used single words of WordNet, but for names of persons, places and taxa that no text uses; then the
    function words that WordNet leaves out."""

    def is_class(synset: SynsetId) -> bool:
        pointers = wordnet.synsets[synset].pointers
        named = any(p.symbol == "@i" for p in pointers)
        taxon = any(p.symbol == "@" and _TAXA & set(_taxon(wordnet, p.synset)) for p in pointers)
        return not (named or taxon)

    words = [
        lemma
        for lemma, rows in senses.items()
        if lemma.isascii()
        and lemma.isalnum()
        and not lemma.isdigit()
        and lemma not in ("a", "an", "the", "and", "of", "to")  # words that GoogleNews leaves out
        and (counts.get(lemma, 0.0) >= 3 or any(is_class(synset) for synset, _ in rows))
    ]
    words.sort(key=lambda word: (-counts.get(word, 0.0), -len(senses[word]), word))
    return sorted({*words[: n - len(FUNCTION_WORDS)], *FUNCTION_WORDS})


def _taxon(wordnet: WordNet, synset: SynsetId) -> tuple[str, ...]:
    """Words of a synset and of those above it, four steps up."""
    words: tuple[str, ...] = ()
    for _ in range(5):
        words += wordnet.synsets[synset].words
        above = [p.synset for p in wordnet.synsets[synset].pointers if p.symbol == "@"]
        if not above:
            break
        synset = above[0]
    return words
