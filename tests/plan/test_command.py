"""avst plan as a command: what it prints, writes, refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from avst import cli
from tests.conftest import ROOT
from tests.test_architecture import LIBRARY, imports, parsed

VL, LORA = str(ROOT / "recipes" / "avst_zero_vl_7b.yaml"), str(ROOT / "recipes" / "avst_zero_vl_7b_lora.yaml")


def test_a_plan_without_network_weights_or_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "plan.json"
    (tmp_path / "prices.yaml").write_text("currency: EUR\nkwh: 0.25\nA100: 1.5\n")
    words = ["plan", VL, "--gpus", "4xA100", "--questions", "10000", "--prices", str(tmp_path / "prices.yaml")]
    assert cli.main([*words, "--json", str(file)]) == 0
    shown, plan = capsys.readouterr().out, json.loads(file.read_text())
    assert plan["model"]["parameters"] == 8_292_166_656
    assert (plan["engine"], plan["updates"], plan["work"]["G"]) == ("zero2", 2500, 6)
    assert plan["memory"]["weights"] == 2 * 8_292_166_656
    assert plan["hours"] == pytest.approx(2500 * plan["seconds"]["step"] / 3600)
    assert plan["kwh"] == pytest.approx(plan["hours"] * 4 * 0.4)
    assert plan["money"] == pytest.approx(plan["hours"] * 4 * 1.5 + plan["kwh"] * 0.25)
    assert [row["cards"] for row in plan["limits"]] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]
    assert "estimated, not measured" in shown
    assert "none was measured on a GPU" in shown
    assert f"{plan['money']:,.2f} EUR" in shown
    assert "3,664 tokens: 3,360 video, 0 audio" in shown  # 40 pairs of 14 x 6 tokens, and the text guessed


def test_json_on_the_screen_is_json_alone(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["plan", LORA, "--gpus", "A6000", "--clip", "640x360x20", "--answer-tokens", "150", "--json"]
    assert cli.main(words) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["engine"], plan["model"]["rank"], plan["memory"]["reference"]) == ("none", 16, 0)
    assert plan["updates"] is plan["hours"] is plan["money"] is None
    assert plan["work"]["answer"] == 150
    assert plan["clips"] == "clips of 640x360 px and 20 s, as asked"


def test_a_colocated_vllm_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """0.3 of a card's 48 GiB, TRL's default: 15.46 GB."""
    assert cli.main(["plan", LORA, "--gpus", "A6000", "grpo.use_vllm=true"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"the colocated vLLM +15\.46 +all of the run", shown)
    assert "Rollouts by vLLM are not in the plan: its share of the card is counted" in shown


def test_what_does_not_fit_has_a_status(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", VL, "--gpus", "RTX4090"]) == 1
    assert "DOES NOT FIT: optimizer first" in capsys.readouterr().out


def test_the_recipes_own_data_are_used(tmp_path: Path, tiny_folders: dict[str, Path]) -> None:
    from avst.scenes.settings import make_settings
    from avst.scenes.synthesise import synthesise

    synthesise(tmp_path / "scenes", 2, 0, make_settings("quickstart"))
    (tmp_path / "r.yaml").write_text(
        f"model: {{path: '{tiny_folders['qwen2_5_omni']}', dtype: float32}}\n"
        "data: {train: scenes/annotations_train.json, videos: scenes/videos}\n"
        "grpo: {num_generations: 2, per_device_train_batch_size: 2, max_completion_length: 8, num_train_epochs: 2}\n"
    )
    file = tmp_path / "plan.json"
    assert cli.main(["plan", str(tmp_path / "r.yaml"), "--gpus", "L4", "--json", str(file)]) == 0
    plan = json.loads(file.read_text())
    assert plan["text_is_exact"]
    assert plan["clips"].endswith("of the recipe's videos")
    asked = sum(len(v["annotation"]) for v in json.loads((tmp_path / "scenes/annotations_train.json").read_text()))
    assert plan["updates"] % 2 == 0
    assert plan["updates"] >= 2 * asked  # a question a step, two epochs


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--gpus", "4xA600"], "no card 'A600' is known; did you mean \"A6000\"?"),
        ([], "wants either --gpus"),
        (["--gpus", "A6000", "--measure"], "wants either --gpus"),
        (["--gpus", "4xA6000", "--engine", "none"], "--engine none is for one card"),
        (["--gpus", "A6000", "--prices", "nothing.yaml"], "nothing.yaml: no such file"),
        (["--gpus", "A6000", "model.path=Qwen/Qwen2.5-VL-7B", "model.freeze=[ears]"], "model.freeze"),
    ],
)
def test_mistakes_are_one_line(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", VL, *words]) == 1
    error = capsys.readouterr().err
    assert said in error
    assert len(error.strip().splitlines()) == 1


def test_a_plan_knows_no_command() -> None:
    """Imports inside functions count too; and what the command imports at once is without torch."""
    plan = [path for path in LIBRARY if path.parent.name == "plan" and path.parent.parent.name == "avst"]
    found = {path.name: [n for n in imports(parsed(path)) if n.startswith("avst.commands")] for path in plan}
    assert {name: names for name, names in found.items() if names} == {}
    light = set(imports(parsed(ROOT / "avst/plan/choices.py")))
    assert {name.split(".")[0] for name in light} == {"__future__", "typing"}


def test_the_tab_key_knows_cards() -> None:
    from avst.commands.plan import card_names

    assert card_names("2x8xH1") == ["2x8xH100", "2x8xH100-PCIe"]
    assert card_names("4xrtx3") == ["4xRTX3090"]
    assert "A6000" in card_names("")
