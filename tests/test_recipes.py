"""Every shipped recipe and engine configuration loads, says what it should, and names only options that exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from avst.config import Recipe, grpo_config, load_recipe, sft_config
from avst.plugins import DEFAULT_REWARDS, load_specs

ROOT = Path(__file__).resolve().parents[1]
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
ENGINES = sorted((ROOT / "recipes" / "accelerate").glob("*.yaml"))
PAPER = [path for path in RECIPES if path.name.startswith("avst_zero")]


@pytest.fixture(autouse=True)
def in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def header(path: Path) -> str:
    """The opening comment, its continued lines joined."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").strip())
    return "\n".join(lines).replace("\\\n", "")


def test_the_recipes_that_the_project_promises_are_there() -> None:
    assert {path.stem for path in RECIPES} >= {
        "quickstart",
        "avst_zero_vl_7b",
        "avst_zero_omni_7b",
        "avst_zero_vl_7b_lora",
        "avst_zero_omni_7b_lora",
        "avst_zero_omni_7b_without_temporal",
        "avst_zero_omni_7b_without_spatial",
    }
    assert {path.stem for path in ENGINES} >= {"one_gpu", "ddp", "zero2", "zero3", "fsdp2", "multi_node"}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_each_recipe_loads_with_options_that_exist(path: Path) -> None:
    recipe = load_recipe(path, ["grpo.use_cpu=true", "sft.use_cpu=true"])
    assert recipe.name == path.stem
    grpo = grpo_config(recipe)
    assert grpo.per_device_train_batch_size % grpo.num_generations == 0  # no group is cut
    assert grpo.learning_rate == recipe.grpo["learning_rate"]
    sft = sft_config(recipe)
    assert (sft.seed, sft.output_dir) == (recipe.seed, recipe.output_dir)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_each_recipe_names_rewards_that_load(path: Path) -> None:
    recipe = load_recipe(path)
    specs = load_specs({name: {"use": r.use, "weight": r.weight} for name, r in recipe.rewards.items()})
    assert [spec.name for spec in specs] == list(recipe.rewards)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_commands_in_each_header_are_valid(path: Path) -> None:
    """Pipeline, smoke command, full command, what to expect; the overrides of the commands are accepted."""
    text = header(path)
    for word in ("Pipeline", "Smoke", "Expect"):
        assert re.search(rf"^{word} ", text, re.MULTILINE), f"{path.name} does not say: {word}"
    assert re.search(r"^(Full|All of it) ", text, re.MULTILINE)
    if path.stem != "quickstart":
        assert "not run here at 7B" in text
    commands = [line for line in text.splitlines() if re.search(r"avst (train|sft|eval) ", line)]
    assert commands
    for command in commands:
        words = command.split()
        named = [word for word in words if re.fullmatch(r"recipes/\w+\.yaml", word)]
        assert named == [f"recipes/{path.name}"], command
        load_recipe(path, [word for word in words if re.fullmatch(r"[\w.]+=\S+", word)])
        for engine in (word for word in words if word.startswith("recipes/accelerate/")):
            assert Path(engine).is_file(), engine


@pytest.mark.parametrize("path", PAPER, ids=lambda path: path.stem)
def test_the_settings_of_the_paper(path: Path) -> None:
    """'AVST-Zero Training' of the appendix, and the experiments: group of 6, batch 1 a device, one epoch."""
    recipe = load_recipe(path)
    grpo = recipe.grpo
    assert (grpo["num_generations"], grpo["num_train_epochs"]) == (6, 1)
    assert grpo["per_device_train_batch_size"] == 6  # completions: one prompt a device
    assert (recipe.prompt.max_text_tokens, grpo["max_completion_length"]) == (512, 1024)
    assert (recipe.media.min_pixels, recipe.media.max_pixels) == (3136, 12845056)
    assert recipe.model.path == ("Qwen/Qwen2.5-Omni-7B" if "omni" in path.stem else "Qwen/Qwen2.5-VL-7B-Instruct")
    assert recipe.media.audio is ("omni" in path.stem)
    assert (recipe.model.lora is not None) is path.stem.endswith("lora")
    # four prompts a step: on four devices, or on one by accumulation
    devices = 1 if recipe.model.lora else 4
    assert devices * grpo["gradient_accumulation_steps"] == 4


def test_ablations_take_one_reward_out_and_change_nothing_else() -> None:
    whole = load_recipe("recipes/avst_zero_omni_7b.yaml")
    assert {n: {"use": r.use, "weight": r.weight} for n, r in whole.rewards.items()} == DEFAULT_REWARDS
    for name in ("temporal", "spatial"):
        without = load_recipe(f"recipes/avst_zero_omni_7b_without_{name}.yaml")
        assert without.rewards == {key: reward for key, reward in whole.rewards.items() if key != name}
        for key in Recipe.__dataclass_fields__.keys() - {"name", "output_dir", "rewards", "places"}:
            assert getattr(without, key) == getattr(whole, key), key


def launch_arguments(path: Path) -> Any:
    """What `accelerate launch --config_file` makes of the file, by accelerate's own code."""
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser

    args = launch_command_parser().parse_args(["--config_file", str(path), "-m", "avst", "train"])
    return _validate_launch_command(args)[0]


@pytest.mark.parametrize("path", ENGINES, ids=lambda path: path.stem)
def test_accelerate_reads_each_engine_configuration(path: Path) -> None:
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.commands.launch import launch_command_parser

    config: Any = load_config_from_file(str(path))  # refuses unknown keys at the top level
    known = vars(launch_command_parser().parse_args(["script.py"]))
    for section in (config.fsdp_config, config.deepspeed_config):
        assert section.keys() <= known.keys()  # accelerate itself passes over unknown keys of a section
    args = launch_arguments(path)
    machines, processes = {"one_gpu": (1, 1), "multi_node": (2, 8)}.get(path.stem, (1, 4))
    assert (args.num_machines, args.num_processes) == (machines, processes)
    assert args.mixed_precision == "bf16"
    assert args.use_deepspeed is (path.stem in ("zero2", "zero3", "multi_node"))
    assert args.use_fsdp is (path.stem == "fsdp2")
    assert args.multi_gpu is (path.stem == "ddp")


def test_the_stages_of_sharding() -> None:
    stages = {name: launch_arguments(ROOT / f"recipes/accelerate/{name}.yaml") for name in ("zero2", "zero3", "fsdp2")}
    assert [stages[name].zero_stage for name in ("zero2", "zero3")] == [2, 3]
    assert (stages["fsdp2"].fsdp_version, stages["fsdp2"].fsdp_reshard_after_forward) == (2, True)
    for name in ("zero2", "zero3"):  # the recipe's own values are taken
        assert (stages[name].gradient_accumulation_steps, stages[name].gradient_clipping) == ("auto", "auto")


def test_a_variant_of_a_recipe_on_the_command_line() -> None:
    recipe = load_recipe(
        "recipes/avst_zero_vl_7b_lora.yaml", ["model.lora.quantize_4bit=true", "data.tasks=[temporal]"]
    )
    assert recipe.model.lora is not None
    assert recipe.model.lora.quantize_4bit
    assert recipe.data.tasks == ("temporal",)
