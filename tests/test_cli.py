"""The command line: what it imports, how it fails, how it hands arguments on."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from avst import __version__, cli, failures
from avst.commands.recipe_arguments import add_recipe_arguments, recipe_from
from avst.errors import AvstError

HEAVY = ("torch", "transformers", "trl", "peft", "accelerate", "numpy", "av", "gensim", "matplotlib", "pyarrow", "rich")


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Puts a command of the test's own in the place of each: command(run) or command(run, add_arguments)."""

    def place(run: Any, add_arguments: Any = lambda parser: None) -> None:
        module = SimpleNamespace(run=run, add_arguments=add_arguments)
        monkeypatch.setattr(cli, "load_command", lambda name: module)

    return place


def raising(error: BaseException) -> Any:
    def run(args: argparse.Namespace) -> int:
        raise error

    return run


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, contextlib, io, avst.cli\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit): avst.cli.main(['--help'])\n"
        f"print(sorted(set({HEAVY!r}) & set(sys.modules)))"
    )
    assert python(code) == "[]"


def test_reading_a_recipe_needs_no_torch() -> None:
    code = "import sys, avst.config, avst.commands.recipe_arguments; print('torch' in sys.modules)"
    assert python(code) == "False"


def test_python_m_avst_is_the_same_program() -> None:
    done = subprocess.run([sys.executable, "-m", "avst", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"avst {__version__}"


def test_help_names_every_command_and_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for name, entry in cli.COMMANDS.items():
        assert name in text
        assert all(example.startswith(("avst ", "accelerate ")) for example in entry.examples)
    assert "examples:" in text


def test_a_command_has_its_own_examples(command: Any, capsys: pytest.CaptureFixture[str]) -> None:
    command(lambda args: 0)
    with pytest.raises(SystemExit):
        cli.main(["train", "--help"])
    assert "accelerate launch --config_file recipes/accelerate/zero2.yaml" in capsys.readouterr().out


def test_the_exit_status_is_the_commands(command: Any) -> None:
    command(lambda args: 3)
    assert cli.main(["validate"]) == 3
    command(lambda args: None)
    assert cli.main(["validate"]) == 0


def test_a_users_mistake_is_one_line_and_status_1(command: Any, capsys: pytest.CaptureFixture[str]) -> None:
    command(raising(AvstError("a.json: question 3: no answer")))
    assert cli.main(["score"]) == 1
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "avst: error: a.json: question 3: no answer\n")


def test_a_bug_is_one_line_and_keeps_its_traceback_in_a_file(
    command: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failures, "_kept_in", [tmp_path])
    command(raising(ZeroDivisionError("of nothing")))
    assert cli.main(["score"]) == 70
    (log,) = tmp_path.glob("avst-score-*.log")
    assert "ZeroDivisionError: of nothing" in log.read_text()
    assert "in raising" in log.read_text() or "in run" in log.read_text()
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert line.startswith("avst: unexpected ZeroDivisionError: of nothing (a bug: please report it;")
    assert str(log) in line


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (PermissionError(13, "Permission denied", "a.json"), "a.json: Permission denied; check who owns the file"),
        (OSError(28, "No space left on device", "runs/x"), "runs/x: No space left on device; free some space"),
        (MemoryError(), "not enough memory (no message); make the step smaller"),
        (RuntimeError("[enforce fail] . DefaultCPUAllocator: can't allocate memory: you tried"), "not enough memory"),
        (ModuleNotFoundError("No module named 'zzz'", name="zzz"), "the package zzz is not installed; `avst doctor`"),
    ],
)
def test_what_the_machine_lacks_is_no_bug(
    command: Any, capsys: pytest.CaptureFixture[str], error: Exception, says: str
) -> None:
    command(raising(error))
    assert cli.main(["train"]) == 1
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert line.startswith("avst: error: ")
    assert says in line


def test_traceback_by_environment(command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVST_TRACEBACK", "1")
    command(raising(AvstError("x")))
    with pytest.raises(AvstError):
        cli.main(["score"])


@pytest.mark.parametrize("option", ["--model", "--checkpoint"])
def test_a_checkpoint_goes_by_either_name(option: str) -> None:
    assert cli.parse(["train", "r.yaml", option, "runs/a"]).model == "runs/a"
    assert cli.parse(["sft", "r.yaml", option, "runs/a"]).model == "runs/a"
    assert cli.parse(["eval", "r.yaml", option, "one=runs/a", option, "runs/b"]).checkpoint == ["one=runs/a", "runs/b"]


@pytest.mark.parametrize("argv", [["--traceback", "score"], ["score", "--traceback"]])
def test_traceback_on_request(command: Any, argv: list[str]) -> None:
    command(raising(AvstError("x")))
    with pytest.raises(AvstError):
        cli.main(argv)


def test_an_interrupt_is_status_130(command: Any, capsys: pytest.CaptureFixture[str]) -> None:
    command(raising(KeyboardInterrupt()))
    assert cli.main(["score"]) == 130
    assert capsys.readouterr().err == "avst: interrupted\n"


def test_a_closed_pipe_is_no_traceback() -> None:
    code = (
        "import sys\nfrom types import SimpleNamespace\nfrom avst import cli\n"
        "def run(args):\n    for _ in range(100000): print('x' * 100)\n    return 0\n"
        "cli.load_command = lambda name: SimpleNamespace(run=run, add_arguments=lambda parser: None)\n"
        "sys.exit(cli.main(['score']))"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 141


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "required: COMMAND"),
        (["trian"], 'unknown command "trian"; did you mean "train"?'),
        (["score", "--nonsense"], "unrecognized arguments: --nonsense"),
        (["score", "a=b"], "unrecognized arguments: a=b"),
    ],
)
def test_wrong_usage_is_status_2(
    command: Any, capsys: pytest.CaptureFixture[str], argv: list[str], message: str
) -> None:
    command(lambda args: 0)
    with pytest.raises(SystemExit) as stop:
        cli.main(argv)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_options_are_not_abbreviated(command: Any) -> None:
    command(lambda args: 0, add_recipe_arguments)
    with pytest.raises(SystemExit):
        cli.main(["train", "x.yaml", "--over"])


def test_a_command_that_is_not_installed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(cli.COMMANDS, "later", cli.Command("not written", ("avst later",)))
    assert cli.main(["later"]) == 1
    assert capsys.readouterr().err == "avst: error: the command later is not part of this installation of avst\n"


def test_a_module_that_a_command_lacks_is_not_taken_for_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr("importlib.import_module", missing)
    with pytest.raises(ModuleNotFoundError, match="torch"):
        cli.load_command("train")


@pytest.mark.parametrize(
    "argv",
    [
        ["RECIPE", "seed=3", "media.fps=1", "--output-dir", "out"],
        ["RECIPE", "--output-dir", "out", "seed=3", "media.fps=1"],
        ["RECIPE", "seed=3", "--output-dir", "out", "media.fps=1"],
        ["--output-dir", "out", "RECIPE", "media.fps=1", "--seed", "3"],
    ],
)
def test_overrides_stand_wherever_the_user_puts_them(command: Any, tmp_path: Any, argv: list[str]) -> None:
    recipe_file = tmp_path / "r.yaml"
    recipe_file.write_text("model: {path: x}")
    found = []
    command(lambda args: found.append(recipe_from(args)), add_recipe_arguments)
    assert cli.main(["train", *(str(recipe_file) if word == "RECIPE" else word for word in argv)]) == 0
    (recipe,) = found
    assert (recipe.seed, recipe.media.fps, recipe.output_dir) == (3, 1.0, "out")


def test_a_wrong_override_is_a_users_mistake(command: Any, tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    recipe_file = tmp_path / "r.yaml"
    recipe_file.write_text("model: {path: x}")
    command(lambda args: bool(recipe_from(args)) and 0, add_recipe_arguments)
    assert cli.main(["train", str(recipe_file), "grop.beta=1"]) == 1
    assert 'unknown key "grop"; did you mean "grpo"?' in capsys.readouterr().err
