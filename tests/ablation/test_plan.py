"""Which cells there are, and what each changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from avst.ablation.plan import FULL, make_plan
from avst.cli import main
from avst.config import load_recipe
from avst.errors import AvstError

RECIPE = """
name: base
seed: 5
model: {path: start}
data: {train: a.json, eval: a.json, videos: v}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    file = tmp_path / "base.yaml"
    file.write_text(RECIPE)
    return file


def test_one_factor_at_a_time_and_the_recipes_own_value_once(recipe: Path) -> None:
    plan = make_plan(recipe, [], ["temporal"], ["rewards.object.weight=0,0.5,1"], "2")
    assert [v.name for v in plan.variants] == [
        FULL,
        "without temporal",
        "rewards.object.weight=0",
        "rewards.object.weight=0.5",
        "rewards.object.weight=1",
    ]
    assert [v.same_as for v in plan.variants] == [None, None, None, FULL, None]  # the recipe pays 0.5
    assert plan.seeds == (5, 6)
    assert [cell.name for cell in plan.cells][:5] == [
        *("full/seed_5", "without_temporal/seed_5", "rewards.object.weight=0/seed_5"),
        *("rewards.object.weight=1/seed_5", "full/seed_6"),
    ]
    assert len(plan.cells) == 8


def test_a_cell_is_the_recipe_with_its_change_alone(recipe: Path) -> None:
    plan = make_plan(recipe, ["grpo.beta=0.1"], ["temporal"], ["rewards.object.weight=0,1"])
    full, dropped, none, one = (plan.cell_recipe(cell) for cell in plan.cells)
    assert set(full.rewards) - set(dropped.rewards) == {"temporal"}
    assert dict(none.rewards["object"].weight) == {"spatial": 0, "st": 0.0}  # type: ignore[call-overload]
    assert dict(one.rewards["object"].weight) == {"spatial": 1, "st": 0.0}  # type: ignore[call-overload]
    assert all(r.grpo["beta"] == 0.1 and r.seed == 5 for r in (full, dropped, none, one))
    assert one.output_dir.endswith("cells/rewards.object.weight=1/seed_5")


def test_a_number_for_a_weight_by_task_is_set_for_the_tasks_that_are_paid(recipe: Path) -> None:
    plan = make_plan(recipe, [], [], ["rewards.temporal.weight=2", "rewards.temporal.weight.st=3"])
    _, both, st = (plan.cell_recipe(cell).rewards["temporal"].weight for cell in plan.cells)
    assert (both, st) == ({"temporal": 2, "st": 2}, {"temporal": 1.0, "st": 3})


def test_lists_and_mappings_are_values_too(recipe: Path) -> None:
    plan = make_plan(recipe, [], [], ["data.tasks=[temporal],[temporal, st]", "grpo.loss_type=grpo,dapo"])
    recipes = [plan.cell_recipe(cell) for cell in plan.cells]
    assert [r.data.tasks for r in recipes[1:3]] == [("temporal",), ("temporal", "st")]
    assert [r.grpo.get("loss_type") for r in recipes[3:]] == ["grpo", "dapo"]
    assert [v.name for v in plan.variants][3:] == ["grpo.loss_type=grpo", "grpo.loss_type=dapo"]


def test_what_a_variant_trains_on_does_not_change_what_it_is_asked(recipe: Path) -> None:
    plan = make_plan(recipe, ["data.max_questions=9"], [], ["data.max_questions=3", "media.fps=1.0"])
    _, fewer, slower = plan.cells
    asked = [load_recipe(recipe, plan.evaluation_overrides(cell)) for cell in (fewer, slower)]
    assert [r.data.max_questions for r in asked] == [9, 9]
    assert [r.media.fps for r in asked] == [2.0, 1.0]
    assert plan.cell_recipe(fewer).data.max_questions == 3


def test_a_grid_has_all_combinations_that_make_sense(recipe: Path) -> None:
    plan = make_plan(recipe, [], ["temporal"], ["grpo.beta=0,1", "rewards.temporal.weight.st=2"], grid=True)
    # beta as it is, 0 or 1, times: nothing, temporal dropped, its weight 2 (not both); without the full recipe itself
    assert len(plan.variants) == 3 * 3
    assert "without temporal, grpo.beta=0" in [v.name for v in plan.variants]
    assert not [v.name for v in plan.variants if "without temporal" in v.name and "weight" in v.name]


@pytest.mark.parametrize(
    ("drops", "sets", "seeds", "words"),
    [
        (["temporl"], [], "1", 'did you mean "temporal"'),
        ([], ["rewards.object.weight"], "1", "not of the form key=value"),
        ([], ["seed=1,2"], "1", "give --seeds"),
        ([], ["eval.max_new_tokens=1,2"], "1", "the same for all cells"),
        ([], ["media.fsp=1,2"], "1", "unknown key"),
        ([], ["rewards.objct.weight=0,1"], "1", "no reward 'objct'"),
        ([], ["rewards.object.weight=0,abc"], "1", "rewards.object.weight=abc: "),
        ([], ["media.fps=1,-2"], "1", "media.fps is -2"),
        ([], [], "0", "--seeds 0"),
        ([], [], "1,1", "--seeds 1,1"),
        ([], [], "many", "--seeds many"),
    ],
)
def test_mistakes_are_one_line(recipe: Path, drops: list[str], sets: list[str], seeds: str, words: str) -> None:
    with pytest.raises(AvstError) as error:
        make_plan(recipe, [], drops, sets, seeds)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_commands_are_whole_lines_and_name_the_same_cells(
    recipe: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = [
        str(recipe),
        "--drop",
        "temporal",
        "--set",
        "grpo.beta=0,1",
        "--seeds",
        "7,9",
        "--out",
        str(tmp_path / "o o"),
    ]
    assert main(["ablate", *words, "--commands"]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = [line.rpartition(" --cell ")[2] for line in lines[:-1]]
    plan = make_plan(recipe, [], ["temporal"], ["grpo.beta=0,1"], "7,9", tmp_path / "o o")
    assert names == ["start", *(cell.name for cell in plan.cells)]
    assert all(line.startswith("cd ") and "'" + str(tmp_path / "o o") + "'" in line for line in lines)
    assert lines[-1].endswith("--table-only")
    assert main(["ablate", *words, "--list"]) == 0
    assert capsys.readouterr().out.count("not begun") == 8


def test_a_value_that_is_the_recipes_own_is_not_trained_twice_however_it_is_written(recipe: Path) -> None:
    plan = make_plan(recipe, ["grpo.beta=0.0"], [], ["grpo.beta=0,0.5"])
    assert [v.same_as for v in plan.variants] == [None, FULL, None]
