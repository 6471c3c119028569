"""Every option of the installed TRL's GRPOConfig is honoured, refused with a reason, or the Trainer's own."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import pytest
from transformers import TrainingArguments
from trl import GRPOConfig

import avst
from avst.errors import AvstError
from avst.grpo import LossConfig
from avst.grpo_options import REFUSED, SUPPORTED, refuse_unsupported

INHERITED = {option.name for option in fields(TrainingArguments)}


def config(tmp_path: Path, cls: type[GRPOConfig] = GRPOConfig, **options: Any) -> GRPOConfig:
    base = {"output_dir": str(tmp_path), "use_cpu": True, "bf16": False, "report_to": "none"}
    return cls(**(base | options))


def test_every_option_is_in_one_place() -> None:
    own = {option.name for option in fields(GRPOConfig)} - INHERITED
    assert own == SUPPORTED | (REFUSED.keys() - INHERITED)
    assert not SUPPORTED & REFUSED.keys()
    assert {option.name for option in fields(LossConfig)} <= SUPPORTED


def test_every_supported_option_is_read_somewhere() -> None:
    """An option that no line of avst reads would be ignored, which SUPPORTED promises it is not."""
    trees = [ast.parse(path.read_text()) for path in Path(avst.__file__).parent.rglob("*.py")]
    read = {node.attr for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    # GRPOConfig derives generation_batch_size and steps_per_generation from each other, and clip_max from cap
    assert SUPPORTED - read == {"generation_batch_size", "vllm_importance_sampling_cap"}


def test_defaults_and_supported_options_pass(tmp_path: Path) -> None:
    refuse_unsupported(config(tmp_path))
    refuse_unsupported(
        config(tmp_path, loss_type="cispo", epsilon_high=5.0, beta=0.04, gradient_accumulation_steps=4, top_p=0.9)
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("vllm_tensor_parallel_size", 2),
        ("entropy_coef", 0.01),
        ("pad_to_multiple_of", 64),
        ("label_smoothing_factor", 0.1),
        ("ds3_gather_for_generation", False),
        ("trust_remote_code", True),
        ("vllm_structured_outputs_regex", "a|b"),
    ],
)
def test_a_refused_option_is_named_with_its_value_and_reason(tmp_path: Path, name: str, value: object) -> None:
    with pytest.raises(AvstError) as error:
        refuse_unsupported(config(tmp_path, **{name: value}))
    assert str(error.value) == f"{name}={value!r} is not supported: {REFUSED[name]}"


def test_all_refused_options_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(AvstError, match=r"sync_ref_model=True .*; max_tool_calling_iterations=3 "):
        refuse_unsupported(config(tmp_path, max_tool_calling_iterations=3, sync_ref_model=True))


def test_generation_over_several_steps_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AvstError, match=r"steps_per_generation=4 is not supported: .* gradient_accumulation_steps=2"):
        refuse_unsupported(config(tmp_path, gradient_accumulation_steps=2, steps_per_generation=4))


def test_an_option_of_a_newer_trl_is_refused_not_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass
    class NewerConfig(GRPOConfig):
        magic: float = field(default=0.0)

    monkeypatch.setattr("trl.GRPOConfig", NewerConfig)
    refuse_unsupported(config(tmp_path, NewerConfig))
    with pytest.raises(AvstError, match=r"magic=1\.0 is not supported: an option of a newer TRL"):
        refuse_unsupported(config(tmp_path, NewerConfig, magic=1.0))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"vllm_server_port": 8001}, "vllm_server_port=8001 does nothing without use_vllm=True"),
        ({"use_vllm": True, "vllm_mode": "near"}, "vllm_mode='near' is none of server, colocate"),
        ({"use_vllm": True, "loss_type": "vespo"}, "vllm_importance_sampling_mode='sequence_mask' is not supported"),
    ],
)
def test_options_of_vllm_that_would_do_nothing(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    refuse_unsupported(config(tmp_path, use_vllm=True, vllm_server_port=8001, vllm_importance_sampling_cap=2.0))
    with pytest.raises(AvstError, match=said):
        refuse_unsupported(config(tmp_path, **options))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"temperature": 0.0}, "temperature=0.0"),
        ({"max_completion_length": None}, "max_completion_length=None"),
        ({"eval_strategy": "steps", "eval_steps": 5, "per_device_eval_batch_size": 8}, "eval_strategy"),
    ],
)
def test_what_would_train_nothing_or_could_not_go_on_is_refused(
    tmp_path: Path, options: dict[str, Any], named: str
) -> None:
    with pytest.raises(AvstError, match=named):
        refuse_unsupported(config(tmp_path, **options))
