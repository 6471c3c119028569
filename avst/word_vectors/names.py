"""The form in which object names are compared: lower case, no punctuation, no articles."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

_ARTICLES = frozenset({"a", "an", "the"})
_APOSTROPHES = "'’‘ʼ`´"


class _Spelling(dict[int, str | int | None]):
    """str.translate's table, filled as needed: apostrophes vanish, punctuation and symbols become spaces."""

    def __missing__(self, code: int) -> str | int | None:
        character = chr(code)
        if character in _APOSTROPHES:
            self[code] = None
        elif unicodedata.category(character)[0] in "PS":
            self[code] = " "
        else:
            self[code] = code
        return self[code]


_SPELLING = _Spelling()


def normalise(name: str) -> str:
    """The form in which names are compared: normalise("The man's T-shirt") == "mans t shirt"; "" if nothing is left."""
    return _without_articles(name.lower().translate(_SPELLING))


def normalise_all(names: Sequence[str]) -> list[str]:
    """normalise for many names, where a name of which nothing is left ("the", "?") still equals itself.

    Such a name is kept behind a NUL, which no word of a vocabulary has; an empty one stays "".
    """
    spelled = [name.lower().translate(_SPELLING) for name in names]
    return [
        _without_articles(s) or (f"\0{name.strip().lower()}" if name.strip() else "")
        for s, name in zip(spelled, names, strict=True)
    ]


def _without_articles(spelled: str) -> str:
    if spelled.isalnum():
        return "" if spelled in _ARTICLES else spelled
    return " ".join([word for word in spelled.split() if word not in _ARTICLES])
