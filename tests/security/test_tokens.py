"""A token in the environment, on the command line or in the recipe is in nothing that a run writes or prints.

What looks like one: tests/test_secrets.py; cards: tests/model_card."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from avst.cli import main
from avst.scenes.settings import make_settings
from avst.scenes.synthesise import synthesise
from avst.secrets import without_secrets

HELD = {
    "HF_TOKEN": "hf_canaryHeldInTheEnvironment",
    "WANDB_API_KEY": "canary-wandb-0123456789abcdef",
    "AWS_SECRET_ACCESS_KEY": "canary/aws+secret",
    "MY_DB_PASSWORD": "canary horse battery",
}
SAID = "hf_canarySaidOnTheCommandLine"
IN_ERROR = "canary://me:canary-in-a-url@host/x"


def test_no_file_of_a_run_holds_a_token(
    tiny_folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A run of one step with a checkpoint, a log for TensorBoard and a report, and one that fails."""
    clips = synthesise(tmp_path / "scenes", n=2, seed=0, settings=make_settings("quickstart"))
    recipe = Path(__file__).parents[2] / "recipes" / "quickstart.yaml"
    monkeypatch.chdir(tmp_path)
    for name, value in HELD.items():
        monkeypatch.setenv(name, value)
    run = tmp_path / "run"
    command = [
        *("train", str(recipe), "--output-dir", str(run), f"model.path={tiny_folders['qwen2_5_vl']}"),
        *(f"data.train={clips.annotations['train']}", f"data.videos={clips.videos}", f"grpo.hub_token={SAID}"),
        *("grpo.max_steps=1", "grpo.save_steps=1", "grpo.save_strategy=steps", "grpo.report_to=tensorboard"),
        *("grpo.num_generations=2", "grpo.per_device_train_batch_size=2", "grpo.max_completion_length=8"),
    ]
    monkeypatch.setattr(sys, "argv", ["avst", *command])
    assert main([*command, "--output-dir", "wrong", f"model.path={HELD['MY_DB_PASSWORD']}"]) == 1
    assert main(command) == 0
    assert main(["report", str(run)]) == 0
    said = "".join(capfd.readouterr())
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"training_args.bin", "run.json", "recipe.yaml", "manifest.json", "README.md", "index.html"} <= {
        path.name for path in files
    }
    for token in (*HELD.values(), SAID):
        assert token not in said
        assert [path for path in files if token.encode() in path.read_bytes()] == []


def test_a_push_holds_no_token(tiny_folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Hub's client gets it from the environment; what it is given to upload, and what stays here, has none."""
    from tests.grpo_world import clip_rows, make_trainer

    monkeypatch.setenv("HF_TOKEN", "")  # so that what is put there is taken away again
    seen: list[str] = []

    def upload_folder(folder_path: str, token: str | None = None, **rest: object) -> Done:
        for file in sorted(Path(folder_path).rglob("*")):
            seen.append(file.name)
            assert not file.is_file() or SAID.encode() not in file.read_bytes(), file
        assert token is None
        assert os.environ["HF_TOKEN"] == SAID
        return Done()

    hub = SimpleNamespace(
        create_repo=lambda *args, **rest: SimpleNamespace(repo_id="me/mine"), upload_folder=upload_folder
    )
    monkeypatch.setattr("transformers.trainer.hf_api", lambda: hub)
    options = {"push_to_hub": True, "save_strategy": "steps", "save_steps": 1, "hub_token": SAID}
    trainer = make_trainer(tiny_folders["qwen2_5_vl"], tmp_path, clip_rows(tiny_folders["qwen2_5_vl"], 2), **options)
    trainer.train()
    assert "training_args.bin" in seen


class Done:
    """A push that has ended well."""

    def done(self) -> bool:
        return True

    def exception(self) -> None:
        return None

    def result(self) -> None:
        return None


def test_an_error_that_quotes_a_url_hides_its_password() -> None:
    assert "canary-in" not in without_secrets(f"cannot be read: {IN_ERROR}")
