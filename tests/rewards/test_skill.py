import pytest

from avst.plugins import load_specs
from rewards.skill import spatial_skill, temporal_skill
from tests.rewards.asking import ask


def when(start: float, end: float) -> str:
    return f"<object>man</object><when>[{start}, {end}]</when>"


@pytest.mark.parametrize(
    ("said", "gold", "expected"),
    [
        (when(5, 10), when(5, 10), 1.0),
        (when(0, 20), when(5, 10), 0.0),  # the clip lasts 20 s
        (when(5, 7.5), when(5, 10), (0.5 - 0.25) / 0.75),
        (when(0, 19), when(5, 10), (5 / 19 - 0.25) / 0.75),
        (when(15, 20), when(5, 10), 0.0),  # floored
        (when(0, 20), when(0, 20), 1.0),  # where the trivial answer is right, it is right
        (when(0, 19), when(0, 20), 0.0),
    ],
)
def test_temporal_skill(said: str, gold: str, expected: float) -> None:
    assert ask(temporal_skill, said, gold, "temporal") == pytest.approx(expected)
    assert ask(temporal_skill, said, gold, "spatial") is None


def box(row: str) -> str:
    return f"<object>man</object><where>0: {row}</where>"


def test_spatial_skill() -> None:
    gold = box("[0, 0, 50, 50]")
    size = {"frame_size": [(100, 100)]}
    assert ask(spatial_skill, box("[0, 0, 100, 100]"), gold, "spatial", **size) == 0.0
    assert ask(spatial_skill, box("[0, 0, 50, 25]"), gold, "spatial", **size) == pytest.approx((0.5 - 0.25) / 0.75)
    assert ask(spatial_skill, gold, gold, "st", **size) == 1.0
    assert ask(spatial_skill, gold, gold, "temporal", **size) is None
    offset = box("[50, 50, 100, 100]")  # without a frame size: the extent of the gold boxes, here 100 x 100
    assert ask(spatial_skill, box("[0, 0, 100, 100]"), offset, "spatial") == 0.0
    assert ask(spatial_skill, box("[50, 50, 100, 75]"), offset, "spatial") == pytest.approx((0.5 - 0.25) / 0.75)


def test_skill_is_off_by_default() -> None:
    assert [spec.name for spec in load_specs()] == ["format", "object", "temporal", "spatial"]
    assert not any("skill" in spec.function.__name__ for spec in load_specs())
