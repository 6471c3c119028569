"""The report's folder: data as .js files, the static files, and the swap that puts a whole report in place.

A page opened from disk may not fetch, but it may load scripts. So every piece of data is one call,

    avst.put("q/12", "{\\"id\\": …}");

whose second argument is JSON in a string: ASCII, `<` and `>` escaped, so that no text of a model can end a script, a
line or a comment; the page hands it to JSON.parse, so that it cannot be code either.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

from avst import __version__
from avst.durable import json_safe
from avst.errors import AvstError

MARK = "report.json"
_ESCAPES = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"})


def script(name: str, value: Any) -> str:
    """The text of a data file. Example: script("a", [1]) == 'avst.put("a", "[1]");\\n'."""
    inner = json.dumps(json_safe(value), separators=(",", ":"), allow_nan=False).translate(_ESCAPES)
    return f"avst.put({json.dumps(name)}, {json.dumps(inner)});\n"


def put(folder: Path, name: str, value: Any) -> None:
    """Write data/<name>.js."""
    path = folder / "data" / f"{name}.js"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(script(name, value), encoding="ascii")


def copy_static(folder: Path) -> None:
    """index.html with its scripts and styles."""
    for kind in ("", "js", "css"):
        source = files("avst.report").joinpath("static", kind)
        (folder / kind).mkdir(exist_ok=True)
        for entry in source.iterdir():
            if entry.is_file() and entry.name.endswith((".html", ".js", ".css", ".svg")):
                (folder / kind / entry.name).write_bytes(entry.read_bytes())


def read_mark(folder: Path) -> dict[str, Any] | None:
    """What the report in `folder` says of itself, None where there is no report."""
    try:
        mark = json.loads((folder / MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return mark if isinstance(mark, dict) and mark.get("kind") == "avst report" else None


@contextmanager
def replacing_report(out: Path, runs: list[str], overwrite: bool) -> Iterator[Path]:
    """A new folder beside `out` that takes its place when the block is done; nothing changes if it raised.

    A report of the same runs is replaced. One of other runs is refused without `overwrite`; a folder that holds
    anything else is refused in any case.
    """
    _refuse(out, runs, overwrite)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise AvstError(f"{out}: the report cannot be written: {error.strerror or error}") from error
    try:
        temporary.chmod(0o755)
        yield temporary
        old = temporary.with_name(f"{temporary.name}.old")
        if out.exists():
            out.rename(old)
        temporary.rename(out)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def mark(folder: Path, runs: list[str], linked: dict[str, str]) -> None:
    """report.json, written last. linked: URL below the report -> the file outside of it that serving may give."""
    record = {"kind": "avst report", "version": __version__, "runs": runs, "linked": linked}
    (folder / MARK).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _refuse(out: Path, runs: list[str], overwrite: bool) -> None:
    if not out.exists():
        return
    if not out.is_dir():
        raise AvstError(f"{out}: the report is a folder, and this is a file; choose another --out")
    if not any(out.iterdir()):
        return
    earlier = read_mark(out)
    if earlier is None:
        raise AvstError(f"{out}: holds something that is no report; choose another --out")
    if earlier.get("runs") != runs and not overwrite:
        raise AvstError(
            f"{out}: holds a report of {', '.join(map(str, earlier.get('runs', [])))}; choose another --out, or "
            "replace it with --overwrite"
        )
