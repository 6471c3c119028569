"""Text of models and data as a terminal may show it: nothing in it is an order to the terminal or to rich.

A model can write escape sequences (ESC [ 2 J), markup ([red]) or characters that turn a line's direction. Markup is
harmless in a rich.text.Text, which takes its characters as they are; the others are taken out here.
"""

from __future__ import annotations

import re
import unicodedata

# CSI … final byte; OSC, DCS, SOS, PM and APC up to their end; any other two-character sequence
ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b[ -/]*[0-~]?"
)


def safe(text: str) -> str:
    """One line without escape sequences, control and formatting characters; white space becomes single spaces.

    Example: safe("a\\x1b[31mb\\n  c") == "ab c"
    """
    return " ".join(_shown(text).split())


def safe_lines(text: str) -> str:
    """The same for several lines, whose indentation stays. Example: safe_lines("a\\n  b\\x9b2J") == "a\\n  b"."""
    return "\n".join(map(_shown, text.split("\n")))


def _shown(text: str) -> str:
    shown = (" " if c.isspace() else c for c in ESCAPES.sub("", text))
    return "".join(c for c in shown if unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co"))
