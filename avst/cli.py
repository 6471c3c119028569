"""`avst COMMAND …`: finds the command, runs it, turns a user's mistake into one line.

Only the module of the command that was asked for is imported, so that `avst --help` needs neither torch nor time.
Exit status: what the command returns; 1 for a user's mistake, 2 for wrong usage, 70 for a bug (avst.failures), 130 when
interrupted, 143 when ended by SIGTERM.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

from avst import __version__
from avst.errors import AvstError, EndedElsewhere, Interrupted
from avst.failures import explain, harmless, tidy_warnings, wants_traceback
from avst.nearest import did_you_mean


@dataclass(frozen=True)
class Command:
    """help: one line;  examples: command lines, shown under the options."""

    help: str
    examples: tuple[str, ...]


COMMANDS = {
    "synth": Command(
        "make synthetic audio-visual clips with exact annotations",
        ("avst synth data/scenes --n 200 --seed 0", "avst synth data/real --from-annotations QA.json"),
    ),
    "validate": Command(
        "list every defect of a data set by file, question and field",
        ("avst validate data/scenes/annotations_train.json --videos data/scenes/videos",),
    ),
    "score": Command(
        "rewards and metrics of answers in a file; needs no model",
        (
            "avst score --annotations QA.json --predictions answers.jsonl --out scores.json",
            "avst score --annotations QA.json --predictions answers.jsonl --out scores.json --explain",
        ),
    ),
    "dry-run": Command(
        "one question through everything without training: tokens, pictures, gold answer, memory",
        (
            "avst dry-run recipes/quickstart.yaml",
            "avst dry-run recipes/avst_zero_vl_7b.yaml --n 4 --out runs/look",
            "avst dry-run recipes/quickstart.yaml --measure grpo.num_generations=4",
        ),
    ),
    "plan": Command(
        "what a run will take on which cards: tokens, memory, seconds, hours, energy, money, and where the limit lies",
        (
            "avst plan recipes/avst_zero_vl_7b.yaml --gpus 4xA6000",
            "avst plan recipes/avst_zero_omni_7b_lora.yaml --gpus 2x8xH100 --questions 10000 --price 2.5",
            "avst plan recipes/quickstart.yaml --measure --json plan.json",
        ),
    ),
    "sft": Command(
        "supervised fine-tuning on gold answers: the cold start, and the paper's baseline",
        ("avst sft recipes/quickstart.yaml sft.max_steps=50",),
    ),
    "train": Command(
        "GRPO",
        (
            "avst train recipes/quickstart.yaml",
            "avst train recipes/quickstart.yaml grpo.learning_rate=1e-6 data.max_questions=8 --output-dir runs/try",
            "accelerate launch --config_file recipes/accelerate/zero2.yaml -m avst train recipes/avst_zero_vl_7b.yaml",
        ),
    ),
    "resume": Command(
        "go on with a run that was interrupted, from its newest whole checkpoint",
        ("avst resume runs/quickstart/grpo", "accelerate launch --config_file zero2.yaml -m avst resume runs/7b"),
    ),
    "verify": Command(
        "which checkpoints of a run are whole, by the sizes and hashes of their files",
        ("avst verify runs/quickstart/grpo",),
    ),
    "eval": Command(
        "greedy answers for a split, and the tables of the paper",
        ("avst eval recipes/quickstart.yaml --checkpoint runs/quickstart/grpo/final",),
    ),
    "ablate": Command(
        "train and evaluate a recipe without some of its parts, or with others, over seeds: one table, one plot",
        (
            "avst ablate recipes/quickstart.yaml --drop temporal --drop spatial --seeds 3",
            "avst ablate recipes/quickstart.yaml --set rewards.object.weight=0,0.5,1 --list",
            "avst ablate recipes/quickstart.yaml --drop spatial --seeds 3 --out runs/drops --commands",
            "avst ablate recipes/quickstart.yaml --drop spatial --seeds 3 --out runs/drops --table-only",
        ),
    ),
    "watch": Command(
        "the curves and the newest answers of a run in the terminal, while it goes on",
        ("avst watch runs/quickstart/grpo", "avst watch runs/quickstart/grpo --once"),
    ),
    "log": Command(
        "the log of a run to TensorBoard, trackio or wandb, with its names, steps and times",
        ("avst log runs/quickstart/grpo --to tensorboard", "avst log runs/quickstart/grpo --to trackio --project avst"),
    ),
    "doctor": Command(
        "versions, GPU, decoders, extras: what is missing, and the line that mends it",
        ("avst doctor", "avst doctor recipes/avst_zero_omni_7b.yaml", "avst doctor --json"),
    ),
    "completion": Command(
        "the line that teaches a shell to complete avst's commands, options and recipe keys",
        (
            "avst completion bash >> ~/.bashrc",
            "avst completion zsh >> ~/.zshrc",
            "avst completion fish > ~/.config/fish/completions/avst.fish",
        ),
    ),
    "report": Command(
        "a page to open in a browser: curves, tables, and every answer over its video",
        (
            "avst report runs/quickstart/grpo",
            "avst report runs/new --compare runs/old --out runs/new_and_old",
            "avst report runs/quickstart/grpo --serve --port 8710",
        ),
    ),
    "quickstart": Command(
        "scenes, GRPO from the packaged policy, table and plot, in minutes on two cores",
        ("avst quickstart",),
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; the console script's entry. Returns the exit status."""
    if "_ARGCOMPLETE" in os.environ:  # the TAB key, see avst completion
        from avst.commands.completion import complete

        complete()
    argv = list(sys.argv[1:] if argv is None else argv)
    tidy_warnings()
    try:
        args = parse(argv)
        return int(args.run(args) or 0)
    except BrokenPipeError:  # `avst score … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Interrupted as end:
        print(f"avst: {end}", file=sys.stderr)
        return end.status
    except KeyboardInterrupt:
        if wants_traceback(argv):
            raise
        print("avst: interrupted", file=sys.stderr)
        return 130
    except EndedElsewhere as end:
        print(f"avst: error: {harmless(str(end))}", file=sys.stderr)
        return 1
    except Exception as error:
        if wants_traceback(argv):
            raise
        line, status = explain(error, _asked(argv))
        print(harmless(line), file=sys.stderr)
        return status


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments, with `run` set to the command's function. Exits with status 2 on wrong usage."""
    asked = _asked(argv)
    parser, chosen = build_parser(asked)
    if asked is not None and asked not in COMMANDS:
        parser.error(f'unknown command "{asked}"{did_you_mean(asked, COMMANDS)}')
    args, rest = parser.parse_known_args(argv)
    _take_late_overrides(args, rest, chosen)
    return args


def build_parser(asked: str | None) -> tuple[argparse.ArgumentParser, argparse.ArgumentParser]:
    """(the parser, that of the command `asked`): only this command has its arguments, for only its module is
    imported."""
    parser = argparse.ArgumentParser(
        prog="avst",
        description="GRPO for audio-visual Video-LLMs: what sounds, when and where.",
        epilog="examples:\n" + "\n".join(f"  {command.examples[0]}" for command in COMMANDS.values()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"avst {__version__}")
    _add_traceback(parser)
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    chosen = parser
    for name, command in COMMANDS.items():
        child = subparsers.add_parser(
            name,
            help=command.help,
            description=command.help[0].upper() + command.help[1:] + ".",
            epilog="examples:\n" + "\n".join(f"  {example}" for example in command.examples),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        if name == asked:
            chosen = child
            module = load_command(name)
            module.add_arguments(child)
            child.set_defaults(run=module.run)
            _add_traceback(child)
    return parser, chosen


def _asked(argv: Sequence[str]) -> str | None:
    """The command's name in a command line."""
    return next((word for word in argv if not word.startswith("-")), None)


def load_command(name: str) -> ModuleType:
    """The module avst.commands.<name>."""
    module = f"avst.commands.{name.replace('-', '_')}"
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise AvstError(f"the command {name} is not part of this installation of avst") from error


def _add_traceback(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--traceback", action="store_true", default=argparse.SUPPRESS, help="show where an error came from"
    )


def _take_late_overrides(args: argparse.Namespace, rest: list[str], parser: argparse.ArgumentParser) -> None:
    """`RECIPE --seed 1 key=value`: argparse gives up on the key=value that stands behind an option."""
    overrides = getattr(args, "overrides", None)
    wrong = [word for word in rest if overrides is None or word.startswith("-") or "=" not in word]
    if wrong:
        parser.error(f"unrecognized arguments: {' '.join(wrong)}")
    if rest:
        args.overrides = [*(overrides or []), *rest]


if __name__ == "__main__":
    sys.exit(main())
