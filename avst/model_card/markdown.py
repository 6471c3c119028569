"""Text of data, recipes and models as Markdown that shows it and does nothing else: no markup, no HTML, no links."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

from avst.secrets import without_secrets

# A full stop counts in addresses and behind a number at the beginning, - and + there alone (lists).
_ACTIVE = re.compile(r"[\\`*_{}\[\]()<>#!|~&$^:/@]|^[-+]|(?<=[Ww])\.|^\d+\.(?!\d)")


def words(text: object, most: int = 400) -> str:
    """One line; what Markdown, HTML or an address detector would act on becomes a character reference. Credentials are
    blotted out, and what is longer than `most` characters is cut."""
    line = _line(text, most)
    return _ACTIVE.sub(lambda found: "".join(f"&#{ord(c)};" for c in found[0]), line)


def code(text: object, most: int = 400) -> str:
    """One line in a code span; where it holds a backtick or a bar, which a span in a table cannot, in <code>."""
    line = _line(text, most)
    if not line:
        return ""
    if "`" not in line and "|" not in line:
        return f"`{line}`"
    return f"<code>{words(line, most + 1)}</code>"


def block(text: str, language: str = "") -> str:
    """A fenced block, its fence longer than any within."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(longest + 1, 3)
    return f"{fence}{language}\n{without_secrets(text).rstrip()}\n{fence}"


def folded(title: str, inside: str) -> str:
    return f"<details>\n<summary>{html.escape(title)}</summary>\n\n{inside}\n\n</details>"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Cells are Markdown already (words, code)."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _line(text: object, most: int) -> str:
    line = " ".join(without_secrets(str(text)).split())
    line = "".join(c for c in line if c.isprintable())
    return line if len(line) <= most else f"{line[: most - 1]}…"
