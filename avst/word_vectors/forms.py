"""Inflected forms: by which rules a word may come from a lemma (WordNet's rules of detachment, morphy(7WN))."""

from __future__ import annotations

from collections.abc import Iterator

# Of nouns first: names of objects and events are mostly nouns.
_ENDINGS = {
    "n": (
        *(("s", ""), ("ses", "s"), ("xes", "x"), ("zes", "z"), ("ches", "ch"), ("shes", "sh"), ("oes", "o")),
        *(("men", "man"), ("ies", "y"), ("ves", "f"), ("ves", "fe")),
    ),
    "v": (("ies", "y"), ("es", "e"), ("es", ""), ("ed", "e"), ("ed", ""), ("ing", "e"), ("ing", "")),
    "a": (("er", ""), ("est", ""), ("er", "e"), ("est", "e")),
}
PARTS = tuple(_ENDINGS)

# Words that stand in names and say little. WordNet has no entry for most of them.
_FUNCTION_WORDS = """
in or with without one another other by on at from for some several many both each any his her its their our my your
whose who which this that these those is are as more multiple wearing into over under between behind near
"""
FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())


def lemmas_of(form: str) -> Iterator[tuple[str, str]]:
    """(lemma, part) that `form` may be a form of, the likelier first.

    Example: "puppies" -> ("puppy", "n") among others. Doubled consonants too: "running" -> "run".
    """
    for part, endings in _ENDINGS.items():
        for ending, other in endings:
            if not form.endswith(ending):
                continue
            stem = form[: -len(ending)]
            if len(stem + other) > 2:
                yield stem + other, part
            if part == "v" and not other and len(stem) > 3 and stem[-1] == stem[-2]:
                yield stem[:-1], part
