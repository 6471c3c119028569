"""make bench: python -m scripts.bench [BENCHMARK …] [--quick] [--json FILE] [--docs FILE]

Runs the benchmarks, prints a table and writes JSON: every figure with its target, when it was measured, all the runs it
was made from, the machine and the versions. What the file has of other benchmarks, measured by the same versions, is
kept. --docs puts the file's table between the marks of a document.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import json
import os
import platform
import sys
import time
from dataclasses import asdict, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

from scripts.bench.figure import Figure

# in this order; each is a module of this package with `run(quick: bool) -> list[Figure]`
BENCHMARKS = ("step", "forward", "rollout", "head", "features", "media", "rewards", "flat_groups")
PACKAGES = ("torch", "transformers", "trl", "accelerate", "av", "numpy")
BEGIN, END = "<!-- figures -->", "<!-- /figures -->"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.bench", description=__doc__)
    parser.add_argument("benchmarks", nargs="*", choices=[*BENCHMARKS, []], metavar="BENCHMARK")
    parser.add_argument("--quick", action="store_true", help="small sizes and few repeats: shows that it runs")
    parser.add_argument("--json", type=Path, default=Path("runs/bench.json"))
    parser.add_argument("--docs", type=Path, help="a document whose table is replaced")
    asked = parser.parse_args(arguments)
    for name in asked.benchmarks or BENCHMARKS:
        start = time.perf_counter()
        found = importlib.import_module(f"scripts.bench.{name}").run(asked.quick)
        print(f"{name}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
        print(table(found), flush=True)
        _write(asked.json, name, found, asked.quick)
    figures = [Figure(**{f.name: entry[f.name] for f in fields(Figure)}) for entry in _kept(asked.json, asked.quick)]
    print(f"\n{table(figures)}\nin {asked.json}")
    if asked.docs is not None:
        _into(asked.docs, table(figures))
    missed = [figure.name for figure in figures if figure.met is False]
    if missed:
        print(f"below target: {', '.join(missed)}")
    return 0


def table(figures: list[Figure]) -> str:
    """All figures as a Markdown table."""
    lines = ["| benchmark | figure | measured | target |", "|---|---|---|---|"]
    return "\n".join(lines + [_row(figure) for figure in figures])


def _row(figure: Figure) -> str:
    verdict = {None: "", True: f"{figure.target} ✓", False: f"{figure.target} ✗"}[figure.met]
    return f"| {figure.group} | {figure.name} | {_number(figure.value)} {figure.unit} | {verdict} |".replace("  ", " ")


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _about(quick: bool) -> dict[str, Any]:
    """What must be the same for figures to stand in one file."""
    return {
        "quick": quick,
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "system": platform.system()},
        "versions": {name: version(name) for name in PACKAGES} | {"python": platform.python_version()},
    }


def _kept(path: Path, quick: bool) -> list[dict[str, Any]]:
    """The entries that the file has, in the order of BENCHMARKS; none of another machine's or of other versions."""
    if not path.is_file():
        return []
    record = json.loads(path.read_text())
    if any(record.get(key) != value for key, value in _about(quick).items()):
        return []
    return sorted(record["figures"], key=lambda entry: BENCHMARKS.index(entry["benchmark"]))


def _write(path: Path, benchmark: str, figures: list[Figure], quick: bool) -> None:
    """The benchmark's figures in place of those that the file had of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    when = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    kept = [entry for entry in _kept(path, quick) if entry["benchmark"] != benchmark]
    new = [{"benchmark": benchmark, "when": when, **asdict(figure), "met": figure.met} for figure in figures]
    path.write_text(json.dumps(_about(quick) | {"figures": kept + new}, indent=2) + "\n")


def _into(path: Path, text: str) -> None:
    document = path.read_text()
    before, _, rest = document.partition(BEGIN)
    _, _, after = rest.partition(END)
    path.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


if __name__ == "__main__":
    sys.exit(main())
