"""The TAB key in a real bash."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from avst import cli
from avst.commands.completions import keys, recipe_files, values

ROOT = Path(__file__).resolve().parents[1]
BASH = shutil.which("bash")


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `avst`, as an installation has it."""
    folder = tmp_path_factory.mktemp("bin")
    program = folder / "avst"
    program.write_text(f"#!{sys.executable}\nimport sys\nfrom avst.cli import main\nsys.exit(main())\n")
    program.chmod(0o755)
    return folder


def offered(programs: Path, line: str) -> list[str]:
    """What bash offers behind `line`: its own completion machinery, called as the TAB key calls it."""
    script = (
        'eval "$(avst completion bash)"\n'
        "function=$(complete -p avst | sed 's/.*-F \\([^ ]*\\).*/\\1/')\n"
        'COMP_LINE="$1"; COMP_POINT=${#COMP_LINE}; COMP_TYPE=9; read -ra COMP_WORDS <<< "$COMP_LINE"\n'
        '[[ "$COMP_LINE" == *" " ]] && COMP_WORDS+=("")\n'
        "COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMPREPLY=()\n"
        '"$function" avst "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"\n'
        "printf '%s\\n' \"${COMPREPLY[@]}\"\n"
    )
    path = os.pathsep.join([str(programs), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [str(BASH), "-c", script, "bash", line], capture_output=True, text=True, cwd=ROOT, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    return [word.strip() for word in done.stdout.split("\n") if word.strip()]


@pytest.mark.skipif(BASH is None, reason="there is no bash here")
@pytest.mark.parametrize(
    ("line", "some", "none"),
    [
        ("avst ", ["train", "doctor", "completion"], ["--seed"]),
        ("avst tr", ["train"], ["eval"]),
        ("avst train --re", ["--resume"], ["--seed"]),
        ("avst train recipes/quick", ["recipes/quickstart.yaml"], []),
        ("avst train recipes/quickstart.yaml grpo.learning", ["grpo.learning_rate="], ["media.fps="]),
        ("avst train recipes/quickstart.yaml seed=1 model.fea", ["model.feature_cache="], []),
        ("avst sft recipes/quickstart.yaml sft.max_st", ["sft.max_steps="], []),
        ("avst synth out --difficulty m", ["medium"], ["easy"]),
    ],
)
def test_bash_offers(programs: Path, line: str, some: list[str], none: list[str]) -> None:
    words = offered(programs, line)
    assert set(some) <= set(words)
    assert not set(none) & set(words)


@pytest.mark.skipif(BASH is None, reason="there is no bash here")
def test_behind_the_sign_stand_the_values(programs: Path) -> None:
    """bash cuts words at `=`, so what it is given is the value alone, or the whole."""
    words = offered(programs, "avst train recipes/quickstart.yaml media.decoder=")
    assert {word.rpartition("=")[2] for word in words} == {"pyav", "decord", "torchcodec"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_a_script_that_names_avst(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "avst" in script
    if (program := shutil.which(shell)) is not None:
        done = subprocess.run([program, "-n"], input=script, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")


def test_keys_are_those_that_a_recipe_takes() -> None:
    """Found without importing trl or transformers, and equal to what importing them gives."""
    from dataclasses import fields

    from transformers import TrainingArguments
    from trl import GRPOConfig

    found = dict(keys())
    assert {"seed", "media.fps", "model.lora.r", "rollout.resample_rounds"} <= set(found)
    assert not {"places", "grpo", "model"} & set(found)
    for section, cls in (("grpo", GRPOConfig), ("sft", TrainingArguments)):
        ours = {name.partition(".")[2] for name in found if name.startswith(f"{section}.")}
        assert {f.name for f in fields(cls) if f.init} <= ours
    assert values(found["media.on_error"]) == ["raise", "skip"]
    assert values(found["data.keep_in_memory"]) == ["true", "false"]


def test_files_below_a_folder_that_is_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.yaml").touch()
    (tmp_path / "b.txt").touch()
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "c.yml").touch()
    monkeypatch.chdir(tmp_path)
    assert sorted(recipe_files("")) == ["a.yaml", "deep/"]
    assert recipe_files("deep/") == ["deep/c.yml"]
    assert recipe_files(f"{tmp_path}/a") == [f"{tmp_path}/a.yaml"]
    assert recipe_files("nowhere/") == []
