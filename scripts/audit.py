"""Known vulnerabilities of the versions in constraints.txt, by pip-audit: `make audit`.

    python scripts/audit.py [constraints.txt]

pip-audit asks PyPI's database, so it needs a network, and it takes a package that it did not find for a good one. Here
what was not looked up is said: 0 where every version was looked up and none is known to be vulnerable, 1 where one is,
2 where some, or all, could not be looked up.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

PIP_AUDIT = ("tool", "run", "pip-audit==2.10.1")
OPTIONS = ("--no-deps", "--disable-pip", "--progress-spinner", "off", "--format", "json")
LONGEST_S = 120


def main(file: str = "constraints.txt") -> int:
    uv = Path(sys.executable).with_name("uv")
    command = [str(uv), *PIP_AUDIT, "--requirement", file, *OPTIONS]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST_S)
        found = json.loads(done.stdout)
    except (OSError, subprocess.TimeoutExpired, ValueError) as error:
        said = [] if isinstance(error, OSError | subprocess.TimeoutExpired) else done.stderr.strip().splitlines()[-1:]
        print(f"audit: NOTHING WAS AUDITED: pip-audit did not answer: {' '.join(said) or error}")
        return 2
    lines, status = verdict(found)
    print("\n".join(lines))
    return status


def verdict(found: dict[str, Any]) -> tuple[list[str], int]:
    """(what to say, the exit status) of pip-audit's answer."""
    packages = found.get("dependencies", [])
    looked_up = [package for package in packages if "skip_reason" not in package]
    lines, status = [], 0
    for package in looked_up:
        for hole in package.get("vulns", []):
            mended = ", ".join(hole.get("fix_versions", [])) or "no version yet"
            lines.append(f"{package['name']} {package['version']}: {hole['id']}, mended in {mended}")
            status = 1
    missed = len(packages) - len(looked_up)
    if not looked_up:
        return ["audit: NOTHING WAS AUDITED: PyPI's database of vulnerabilities cannot be reached from here"], 2
    if missed:
        lines.append(f"audit: {missed} of {len(packages)} packages were NOT looked up: the database did not know them")
        status = status or 2
    lines.append(
        f"audit: {len(looked_up)} packages looked up, {sum(bool(p.get('vulns')) for p in looked_up)} vulnerable"
    )
    return lines, status


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
