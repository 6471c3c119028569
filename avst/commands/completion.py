"""avst completion SHELL: what the shell reads, once, so that the TAB key asks avst itself (by argcomplete).

Options come from the real parsers, recipe keys from the recipe's own dataclasses: nothing has to be written down twice.
Recipe keys are offered before the first option only: behind one, argparse takes them for finished.
"""

from __future__ import annotations

import argparse
import os

SHELLS = ("bash", "zsh", "fish")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=SHELLS, help="bash and zsh: eval its output; fish: keep it as a file")


def run(args: argparse.Namespace) -> int:
    from argcomplete.shell_integration import shellcode

    print(shellcode(["avst"], shell=args.shell))
    return 0


def complete() -> None:
    """Answer the shell that called with what was typed (COMP_LINE, up to COMP_POINT), and end the process."""
    import argcomplete
    from argcomplete.lexers import split_line

    from avst import cli

    line, point = os.environ["COMP_LINE"], int(os.environ["COMP_POINT"])
    words = split_line(line, point)[3][1:]
    asked = next((word for word in words if not word.startswith("-")), None)
    parser, _ = cli.build_parser(asked if asked in cli.COMMANDS else None)
    argcomplete.autocomplete(parser, always_complete_options="long")
