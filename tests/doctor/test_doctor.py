"""Decoders, machine, recipe and the command itself."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from avst import cli
from avst.commands import doctor
from avst.config import load_recipe
from avst.doctor import media, try_decoders
from avst.doctor.check import Check
from avst.doctor.machine import disk, memory
from avst.doctor.recipe import check_recipe, check_word_vectors, memory_settings
from avst.doctor.show import show
from avst.models.tiny import make_tiny
from avst.scenes.settings import make_settings
from avst.scenes.synthesise import synthesise
from avst.types import Clip


def test_pyav_decodes_the_clip_and_what_is_not_installed_is_absent() -> None:
    checks = {check.name: check for check in media.check_media("pyav")}
    assert checks["pyav"].state == "ok"
    assert "libavcodec" in checks["FFmpeg in PyAV"].found
    for name in ("decord", "torchcodec"):
        if checks[name].found == "not installed":
            assert (checks[name].state, checks[name].mend) == ("absent", "pip install -e '.[decoders]'")


@pytest.mark.parametrize(
    ("colour", "tone_hz", "says"),
    [((200, 30, 30), 440.0, "wrong colours"), (None, 880.0, "a tone of 880 Hz where 440 Hz was written")],
)
def test_a_decoder_that_gives_other_pictures_or_sounds_is_found_out(
    monkeypatch: pytest.MonkeyPatch, colour: tuple[int, int, int] | None, tone_hz: float, says: str
) -> None:
    """The same clip from a decoder that shows one colour, or plays at twice the rate."""
    colours = [(200, 30, 30)] * 2 + [colour or (30, 30, 200)] * 2
    frames = np.stack([np.full((48, 64, 3), c, np.uint8) for c in colours])
    sound = np.sin(2 * np.pi * tone_hz * np.arange(32000) / 16000).astype(np.float32)
    clip = Clip(frames, np.arange(4) / 2, 2.0, (64, 48), 2.0, sound, 16000)
    monkeypatch.setattr("avst.media.load_clip", lambda path, settings: clip)
    assert says in try_decoders.tried(Path("x.mp4"), "pyav")


def test_a_chosen_decoder_that_is_not_there_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media, "version", lambda package: None)
    assert media._decoder("decord", "", "decord").state == "broken"
    assert media._decoder("decord", "", "pyav").state == "absent"


def test_disk_and_memory(tmp_path: Path) -> None:
    assert disk("d", tmp_path / "not" / "yet").state in ("ok", "warning")
    total, free = memory()
    assert 0 < free <= total


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("doctor")
    synthesise(folder / "scenes", 2, 0, make_settings("quickstart"))
    make_tiny("qwen2_5_omni", folder / "tiny", hidden=32, layers=1, heads=2, kv_heads=1)
    (folder / "r.yaml").write_text(
        "model: {path: tiny, dtype: float32, freeze: [vision]}\n"
        "data: {train: scenes/annotations_train.json, eval: scenes/annotations_eval.json, videos: scenes/videos}\n"
        "grpo: {num_generations: 4, bf16: false, use_cpu: true}\n"
        "sft: {bf16: false, use_cpu: true}\n"
    )
    return folder


def found(world: Path, *overrides: str) -> dict[str, Check]:
    recipe = load_recipe(world / "r.yaml", [f"output_dir={world / 'run'}", *overrides])
    return {check.name: check for check in [*check_recipe(recipe), check_word_vectors(recipe)]}


def test_a_recipe_that_is_whole(world: Path) -> None:
    checks = found(world)
    assert {name: check.state for name, check in checks.items() if check.state == "broken"} == {}
    assert "questions about 1 videos" in checks["data.train"].found
    assert "1 file(s)" in checks["model.path"].found


@pytest.mark.parametrize(
    ("override", "name", "says"),
    [
        ("model.path=./nowhere", "model.path", "no such folder"),
        ("model.path=SCENES", "model.path", "no config.json"),
        ("data.train=nothing.json", "data.train", "nothing.json: cannot be read"),
        ("data.videos=nowhere", "videos of train", "nowhere: no such folder"),
        ("data.videos=.", "videos of train", "1 of 1 are not in ."),
        ("rewards.format.use=rewards.format:format_rewads", "rewards", "did you mean 'format_reward'?"),
        ("word_vectors.path=nothing.bin", "word vectors", "nothing.bin"),
        ("grpo.num_generation=4", "grpo", 'did you mean "num_generations"?'),
        ("sft.report_to=wandb", "report_to", "wandb is not installed"),
        ("model.attention=flash_attention_2", "model.attention", "flash-attn is not installed"),
    ],
)
def test_what_a_recipe_names_in_vain(world: Path, override: str, name: str, says: str) -> None:
    if "not installed" in says and doctor_has(override):
        pytest.skip("it is installed here")
    check = found(world, override.replace("SCENES", str(world / "scenes")))[name]
    assert check.state == "broken"
    assert says in check.found
    assert "\n" not in check.found


def doctor_has(override: str) -> bool:
    from avst.doctor.packages import version

    return version("wandb" if "wandb" in override else "flash-attn") is not None


def test_memory_settings_are_the_recipes(world: Path) -> None:
    said = memory_settings(load_recipe(world / "r.yaml", ["media.total_pixels=784000", "grpo.beta=0.04"]))
    assert said.startswith("dtype float32, frozen vision, at most 1000 visual tokens, G 4, batch TRL's default")
    assert said.endswith("reference model yes")


def test_status_and_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    checks = [Check("packages", "torch", "ok", "2"), Check("extras", "decord", "absent", "x", "pip install y")]
    monkeypatch.setattr(doctor, "all_checks", lambda recipe, overrides: checks)
    assert cli.main(["doctor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["checks"][1]["mend"] == "pip install y"
    checks.append(Check("machine", "GPU 0", "broken", "no product", "see nvidia-smi"))
    assert cli.main(["doctor"]) == 1
    assert "1 broken: GPU 0" in capsys.readouterr().out


def test_a_recipe_that_cannot_be_read_is_said_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "nothing.yaml"]) == 1
    assert capsys.readouterr().err == "avst: error: nothing.yaml: no such file\n"


def test_the_screen_survives_without_rich(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    checks = [Check("packages", "rich", "broken", "not installed", "pip install 'rich>=13'")]
    show(checks)
    with_rich = capsys.readouterr().out
    for name in [name for name in sys.modules if name.split(".")[0] == "rich"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "rich", None)
    monkeypatch.setitem(sys.modules, "rich.console", None)
    show(checks)
    without = capsys.readouterr().out
    for text in (with_rich, without):
        assert "BROKEN" in text
        assert "-> pip install 'rich>=13'" in text
