"""Recipes: what is read, what is refused and in which words."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from avst.config import Recipe, grpo_arguments, grpo_config, load_recipe, recipe_values
from avst.config.yaml_file import parse_mapping, parse_value
from avst.errors import AvstError
from avst.plugins import DEFAULT_REWARDS

SMALL = "model: {path: some/model}\n"


def write(folder: Path, text: str, name: str = "a.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def load(folder: Path, text: str, *overrides: str) -> Recipe:
    return load_recipe(write(folder, text), overrides)


# ---- values ----------------------------------------------------------------------------------------------------------


def test_a_small_recipe_takes_the_defaults(tmp_path: Path) -> None:
    recipe = load(tmp_path, SMALL)
    assert (recipe.name, recipe.output_dir, recipe.seed) == ("a", "runs/a", 0)
    assert (recipe.media.fps, recipe.prompt.max_text_tokens, recipe.model.freeze) == (2.0, 512, ())
    assert recipe_values(recipe)["rewards"] == DEFAULT_REWARDS


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-6", 1e-6),  # YAML 1.1 reads text here, the best known trap of recipes
        ("1.5E+3", 1500.0),
        (".5", 0.5),
        ("12_000", 12000),
        ("-3", -3),
        ("no", "no"),  # save_strategy: no
        ("on", "on"),
        ("true", True),
        ("010", 10),
        ("12:30", "12:30"),
        ("2024-01-01", "2024-01-01"),
        ("", None),
        ("~", None),
        ("[a, 1]", ["a", 1]),
        ("{a: {b: 2.0}}", {"a": {"b": 2.0}}),
        ("'1'", "1"),
    ],
)
def test_yaml_values(text: str, value: object) -> None:
    found = parse_value(text, "here")
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1\nb: 2", "f.yaml:2: not valid YAML"),
        ("a: 1\nb: 2\na: 3", "f.yaml:3: a is written twice (first at f.yaml:1)"),
        ("a:\n  b: 1\n  b: 2", "f.yaml:3: a.b is written twice (first at f.yaml:2)"),
        ("- a", "f.yaml:1: expected `key: value` lines"),
        ("1: a", "f.yaml:1: a key must be text, found '1'"),
        ("a: !!python/object/apply:os.system [ls]", "f.yaml:1: the tag tag:yaml.org,2002:python"),
        ("a: !!python/name:os.system x", "f.yaml:1: not valid YAML: could not determine a constructor"),
        ("a: &x [*x]", "f.yaml:1: an alias that contains itself"),
        ("a: &x {b: *x}", "f.yaml:1: an alias that contains itself"),
        ("a: 1\n---\nb: 2", "f.yaml:2: not valid YAML"),
        ("a: \x00", "f.yaml"),
    ],
)
def test_bad_yaml_is_one_line_with_its_place(text: str, message: str) -> None:
    with pytest.raises(AvstError) as error:
        parse_mapping(text, "f.yaml")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_aliases_of_aliases_are_bounded() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    with pytest.raises(AvstError, match="more than 100000 values"):
        parse_mapping("\n".join(lines), "f.yaml")


# ---- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SMALL + "grop: {}", 'a.yaml:2: unknown key "grop"; did you mean "grpo"?'),
        ("model:\n  path: x\n  dtyp: auto", 'a.yaml:3: unknown key "model.dtyp"; did you mean "dtype"?'),
        ("seed: 1", "a.yaml: model is missing"),
        ("model: {dtype: auto}", "a.yaml:1: model.path is missing"),
        ("model: {path: ''}", "a.yaml:1: model.path is empty"),
        (SMALL + "media: {fps: two}", "a.yaml:2: media.fps is 'two', expected a number"),
        (SMALL + "media: {fps: 0}", "a.yaml:2: media.fps is 0.0, expected above 0"),
        (SMALL + "media: {fps: .inf}", "a.yaml:2: media.fps is inf, expected a number"),
        (SMALL + "media: {fps: true}", "a.yaml:2: media.fps is true, expected a number"),
        (SMALL + "media: {max_frames: 2.5}", "a.yaml:2: media.max_frames is 2.5, expected a whole number or null"),
        (SMALL + "media: {audio: 'yes'}", "a.yaml:2: media.audio is 'yes', expected true or false"),
        (
            SMALL + "media:\n  min_pixels: 9\n  max_pixels: 4",
            "a.yaml:3: media.min_pixels is 9, above media.max_pixels 4",
        ),
        (SMALL + "seed: -1", "a.yaml:2: seed is -1, expected at least 0"),
        (SMALL + "data: [a]", "a.yaml:2: data is ['a'], expected a mapping"),
        (SMALL + "data:\n  tasks: [st, spatal]", "a.yaml:3: data.tasks[1] is 'spatal', expected one of"),
        (SMALL + "data: {train: 3}", "a.yaml:2: data.train is 3, expected a list of text"),
        ("model: {path: x, dtype: fp16}", 'model.dtype is \'fp16\', expected one of "float32", "bfloat16"'),
        ("model: {path: x, freeze: [eyes]}", 'model.freeze[0] is \'eyes\', expected one of "vision", "audio"'),
        ("model: {path: x, lora: 3}", "a.yaml:1: model.lora is 3, expected a mapping or null"),
        ("model:\n  path: x\n  lora:\n    rank: 3", 'a.yaml:4: unknown key "model.lora.rank"'),
        ("model:\n  path: x\n  lora:\n    r: 0", "a.yaml:4: model.lora.r is 0, expected at least 1"),
        (SMALL + "grpo: 3", "a.yaml:2: grpo is 3, expected a mapping"),
        (SMALL + "rewards: {}", "a.yaml:2: rewards: no reward is left"),
        (SMALL + "rewards: {temporal: null}", "a.yaml:2: rewards: no reward is left"),
        (SMALL + "rewards:\n  x: {}", "a.yaml:3: rewards.x.use is missing"),
        (SMALL + "rewards:\n  x.y: {use: 'm:f'}", 'a.yaml:3: "x.y" cannot be the name of a reward'),
        (SMALL + "rewards:\n  total: {use: 'm:f'}", 'a.yaml:3: "total" cannot be the name of a reward'),
        (
            SMALL + "rewards:\n  x: {use: 'm:f', weight: {temporl: 1}}",
            'a.yaml:3: unknown key "rewards.x.weight.temporl"; did you mean "temporal"?',
        ),
        (
            SMALL + "rewards:\n  x: {use: 'm:f', weight: much}",
            "a.yaml:3: rewards.x.weight is 'much', expected a number",
        ),
        (SMALL + "rewards:\n  x: {use: 'm:f', weight: {st: a}}", "rewards.x.weight.st is 'a', expected a number"),
        (SMALL + "name: ../up", 'a.yaml:2: name is "../up", expected letters'),
        (SMALL + "extends: none.yaml", "a.yaml:2: extends none.yaml: no such file beside this one"),
        (SMALL + "extends: [a]", "a.yaml:2: extends is ['a'], expected the name of a recipe file"),
        (SMALL + "extends: a.yaml", "extends itself"),
    ],
)
def test_wrong_recipes_are_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(AvstError) as error:
        load(tmp_path, text)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_missing_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(AvstError, match=r"no\.yaml: no such file"):
        load_recipe(tmp_path / "no.yaml")
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(AvstError, match=r"b\.yaml: cannot be read"):
        load_recipe(tmp_path / "b.yaml")
    with pytest.raises(AvstError, match="cannot be read"):
        load_recipe(tmp_path)


# ---- overrides -------------------------------------------------------------------------------------------------------


def test_overrides_are_applied_in_order_and_win(tmp_path: Path) -> None:
    text = SMALL + "grpo: {learning_rate: 1.0e-5, beta: 0.1}\nmedia: {fps: 4}"
    recipe = load(
        tmp_path, text, "grpo.learning_rate=1e-6", "media.fps=1", "media.fps=0.5", "data.tasks=[st]", "model.lora.r=4"
    )
    assert recipe.grpo == {"learning_rate": 1e-6, "beta": 0.1}
    assert recipe.media.fps == 0.5
    assert recipe.data.tasks == ("st",)
    assert recipe.model.lora is not None
    assert (recipe.model.lora.r, recipe.model.lora.alpha) == (4, 32)


def test_flags_win_over_everything(tmp_path: Path) -> None:
    path = write(tmp_path, SMALL + "seed: 1\noutput_dir: x")
    recipe = load_recipe(path, ["seed=2"], output_dir="123", seed=3)
    assert (recipe.seed, recipe.output_dir) == (3, "123")


def test_an_override_touches_one_key_of_the_default_rewards(tmp_path: Path) -> None:
    recipe = load(tmp_path, SMALL, "rewards.format.weight=0.25", "rewards.spatial=null")
    assert list(recipe.rewards) == ["format", "object", "temporal"]
    assert recipe.rewards["format"].weight == 0.25
    assert recipe.rewards["temporal"].weight == {"temporal": 1.0, "st": 0.5}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("grop.beta=1", 'command line: unknown key "grop"; did you mean "grpo"?'),
        ("media.fp=1", 'command line: unknown key "media.fp"; did you mean "fps"?'),
        ("media.fps=x", "command line: media.fps is 'x', expected a number"),
        ("seed", '"seed" is not of the form key=value'),
        ("=1", '"=1" is not of the form key=value'),
        ("a..b=1", "is not of the form key=value"),
        ("seed.x=1", "seed is a mapping, expected a whole number"),
        ("model.path.x=1", "model.path is 'some/model', not a section"),
        ("data.tasks=[st", 'command line: "data.tasks=[st"'),
    ],
)
def test_wrong_overrides_are_refused(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(AvstError) as error:
        load(tmp_path, SMALL, override)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


# ---- extends ---------------------------------------------------------------------------------------------------------


def test_a_variant_says_only_what_differs(tmp_path: Path) -> None:
    base = SMALL + "name: base\noutput_dir: runs/base\nseed: 5\nmedia: {fps: 1, max_frames: 8}\ngrpo: {beta: 0.1}\n"
    write(tmp_path, base, "base.yaml")
    write(tmp_path, "extends: base.yaml\nmedia: {fps: 3}\nrewards: {temporal: null}", "middle.yaml")
    write(tmp_path, "extends: middle.yaml\nrewards: {mine: {use: 'm:f'}}\ngrpo: {epsilon: 0.3}\ndata:", "top.yaml")
    recipe = load_recipe(tmp_path / "top.yaml")
    assert (recipe.name, recipe.output_dir, recipe.seed) == ("top", "runs/top", 5)  # never the base's run folder
    assert (recipe.media.fps, recipe.media.max_frames) == (3.0, 8)
    assert recipe.grpo == {"beta": 0.1, "epsilon": 0.3}
    assert list(recipe.rewards) == ["format", "object", "spatial", "mine"]


def test_a_complaint_about_a_base_names_the_base(tmp_path: Path) -> None:
    write(tmp_path, SMALL + "media:\n  fps: x", "base.yaml")
    with pytest.raises(AvstError, match=r"base\.yaml:3: media\.fps is 'x'"):
        load(tmp_path, "extends: base.yaml\nmedia: {max_frames: 4}")


def test_a_circle_of_recipes_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "extends: b.yaml", "a.yaml")
    write(tmp_path, "extends: a.yaml", "b.yaml")
    with pytest.raises(AvstError, match="extends itself"):
        load_recipe(tmp_path / "a.yaml")


def test_a_section_rewards_is_the_whole_list(tmp_path: Path) -> None:
    recipe = load(tmp_path, SMALL + "rewards: {mine: {use: 'm:f', weight: 2}}")
    assert list(recipe.rewards) == ["mine"]


# ---- paths -----------------------------------------------------------------------------------------------------------


def test_paths_are_found_beside_the_recipe_then_in_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipes, work = tmp_path / "recipes", tmp_path / "work"
    for folder in (recipes / "videos", recipes / "checkpoint", work):
        folder.mkdir(parents=True)
    (recipes / "here.json").touch()
    (recipes / "mine.py").touch()
    monkeypatch.chdir(work)
    text = (
        "model: {path: checkpoint}\nmedia: {cache_dir: videos}\nword_vectors: {path: vectors.bin}\n"
        "data: {train: [here.json, there.json], eval: here.json, videos: videos}\n"
        "rewards: {a: {use: './mine.py:f'}, b: {use: './other.py:f'}, c: {use: 'rewards.format:format_reward'}}"
    )
    recipe = load_recipe(write(recipes, text))
    assert recipe.data.train == (str(recipes / "here.json"), "there.json")
    assert recipe.data.eval == (str(recipes / "here.json"),)
    assert (recipe.data.videos, recipe.model.path) == (str(recipes / "videos"), str(recipes / "checkpoint"))
    assert recipe.word_vectors.path == "vectors.bin"
    assert recipe.media.cache_dir == "videos"  # written, not read: the working folder
    uses = [reward.use for reward in recipe.rewards.values()]
    assert uses == [f"{recipes / 'mine.py'}:f", "./other.py:f", "rewards.format:format_reward"]
    overridden = load_recipe(recipes / "a.yaml", ["data.train=here.json"])
    assert overridden.data.train == ("here.json",)  # the user stands in the working folder


def test_paths_of_a_base_are_looked_for_beside_the_base(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "mine.py").touch()
    write(tmp_path / "deep", SMALL + "rewards: {a: {use: './mine.py:f'}}", "base.yaml")
    recipe = load(tmp_path, "extends: deep/base.yaml\nrewards: {a: {weight: 3}}")
    assert recipe.rewards["a"].use == f"{tmp_path / 'deep' / 'mine.py'}:f"
    assert recipe.rewards["a"].weight == 3.0


def test_the_resolved_recipe_loads_to_itself(tmp_path: Path) -> None:
    text = SMALL + "grpo: {learning_rate: 1.0e-6, save_strategy: no, lr_scheduler_kwargs: {a: [1, null]}}\n"
    recipe = load(tmp_path, text, "model.lora.target_modules=[q_proj]", "rewards.object=null")
    saved = yaml.safe_dump(recipe_values(recipe), sort_keys=False)
    assert load_recipe(write(tmp_path, saved, "saved.yaml")) == recipe


# ---- the libraries' options ------------------------------------------------------------------------------------------


@dataclass
class Options:
    output_dir: str = ""
    seed: int = 0
    learning_rate: float = 1e-6
    max_steps: int = -1
    epsilon_high: float | None = None
    scheduler: str | dict | None = None


def test_options_are_checked_by_name_and_type(tmp_path: Path) -> None:
    recipe = load(tmp_path, SMALL + "seed: 7\ngrpo: {learning_rate: 1, epsilon_high: null, scheduler: {a: 1}}")
    assert grpo_arguments(recipe, Options) == {
        "output_dir": "runs/a",
        "seed": 7,
        "learning_rate": 1.0,
        "epsilon_high": None,
        "scheduler": {"a": 1},
    }


def test_what_the_class_itself_refuses_is_one_line_too(tmp_path: Path) -> None:
    class Refusing(Options):
        def __init__(self, **_: object) -> None:
            raise ValueError("no such\n  device")

    recipe = load(tmp_path, f"{SMALL}grpo:\n  max_steps: 3")
    with pytest.raises(AvstError, match=r"a\.yaml:2: grpo: no such device$"):
        grpo_config(recipe, Refusing)
    assert grpo_config(recipe, Options) == Options("runs/a", 0, max_steps=3)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("learing_rate: 1", 'a.yaml:3: unknown key "grpo.learing_rate"; did you mean "learning_rate"?'),
        ("learning_rate: fast", "a.yaml:3: grpo.learning_rate is 'fast', expected a number"),
        ("max_steps: 1.5", "a.yaml:3: grpo.max_steps is 1.5, expected a whole number"),
        ("output_dir: x", "a.yaml:3: grpo.output_dir: set output_dir at the top of the recipe instead"),
        ("seed: 3", "a.yaml:3: grpo.seed: set seed at the top of the recipe instead"),
        ("reward_weights: [1]", "a.yaml:3: grpo.reward_weights: set rewards.<name>.weight instead"),
    ],
)
def test_wrong_options_are_refused_with_their_line(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(AvstError) as error:
        grpo_arguments(load(tmp_path, f"{SMALL}grpo:\n  {line}"), Options)
    assert str(error.value).endswith(message) or message in str(error.value)
