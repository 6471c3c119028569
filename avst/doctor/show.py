"""The checks on the screen: by rich where it can be imported, else as plain lines."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from avst.doctor.check import Check

MARKS = {"ok": ("ok", "green"), "absent": ("-", "dim"), "warning": ("!", "yellow"), "broken": ("BROKEN", "bold red")}


def show(checks: Sequence[Check]) -> None:
    """Sections in their order, each check a row; the line that mends it stands below it, or beside what is
    merely absent."""
    try:
        _show_rich(checks)
    except ImportError:
        _show_plain(checks)
    broken = [check for check in checks if check.state == "broken"]
    warnings = sum(check.state == "warning" for check in checks)
    if broken:
        print(f"\n{len(broken)} broken: {', '.join(check.name for check in broken)}")
    else:
        print(f"\nnothing is broken; {warnings} warning{'' if warnings == 1 else 's'}")


def _show_rich(checks: Sequence[Check]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(soft_wrap=False, highlight=False)
    if not console.is_terminal:
        console = Console(width=10_000, highlight=False)  # a log or a pipe: a check stays on its line
    width = max(len(check.name) for check in checks)
    for section, members in groupby(checks, key=lambda check: check.section):
        console.print(f"\n[bold]{section}[/bold]")
        table = Table.grid(padding=(0, 2))
        table.add_column(min_width=6)
        table.add_column(min_width=width)
        table.add_column()
        for check in members:
            mark, style = MARKS[check.state]
            beside = f"  ({check.mend})" if check.mend and check.state == "absent" else ""
            table.add_row(Text(mark, style=style), Text(check.name), Text(check.found).append(beside, style="dim"))
            if check.mend and not beside:
                table.add_row("", "", Text(f"-> {check.mend}", style="cyan"))
        console.print(table)


def _show_plain(checks: Sequence[Check]) -> None:
    width = max(len(check.name) for check in checks)
    for section, members in groupby(checks, key=lambda check: check.section):
        print(f"\n{section}")
        for check in members:
            print(f"{MARKS[check.state][0]:<8}{check.name:<{width + 2}}{check.found}")
            if check.mend:
                print(f"{'':<{width + 10}}-> {check.mend}")
