"""Credentials in text that will be shared: command lines, recipes, model cards."""

from __future__ import annotations

import os
import re

BLOT = "(not saved)"
# a word that ends so names a credential: hub_token, WANDB_API_KEY; max_new_tokens and tokenizer do not
_NAME = r"(?:\w*[_-])?(?:token|password|passwd|secret|api[_-]?key|access[_-]?key)"
_ASSIGNED = re.compile(rf"(?i)(?<![\w-])(?P<name>-{{0,2}}{_NAME})(?P<mark>[\"']?\s*[=:]\s*)(?P<value>[^\s,}}\]]+)")
_FLAG = re.compile(rf"(?i)--?{_NAME}")
SHAPES = re.compile(
    r"\b(?:hf|api_org)_[A-Za-z0-9]{16,}|\bgh[pousr]_[A-Za-z0-9]{20,}|\bsk-[A-Za-z0-9_-]{20,}|\bAKIA[0-9A-Z]{16}\b"
    r"|\bxox[abeprs]-[A-Za-z0-9-]{10,}|\bglpat-[A-Za-z0-9_-]{20,}"
)
_IN_URL = re.compile(r"(?<=://)[^\s/@]+(?=@)")
NAMED = re.compile(rf"(?i){_NAME}")


def without_secrets(text: str) -> str:
    """The text with what looks like a credential blotted out, and what the environment holds as one.

    Example: without_secrets("grpo.hub_token=hf_abc") == "grpo.hub_token=(not saved)"
    """
    for name, value in os.environ.items():
        if NAMED.fullmatch(name) and len(value) >= 8:
            text = text.replace(value, BLOT)
    text = _ASSIGNED.sub(lambda found: f"{found['name']}{found['mark']}{BLOT}", text)
    return _IN_URL.sub(BLOT, SHAPES.sub(BLOT, text))


def words_without_secrets(words: list[str]) -> list[str]:
    """The same for the words of a command line, where a credential may be the word behind its name (--token X)."""
    found, hidden = [], False
    for word in words:
        found.append(BLOT if hidden else without_secrets(word))
        hidden = _FLAG.fullmatch(word) is not None
    return found
