"""Too little memory is one line: for what, the longest clip with its tokens and frames, what to lower."""

from __future__ import annotations

import math
import os
import signal
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch.utils.data import DataLoader

from avst.errors import AvstError
from avst.failures import explain
from tests.grpo_world import QUESTIONS, clip_rows, given_answers, make_trainer
from tests.test_sft import make_trainer as make_sft_trainer
from tests.test_sft import rows_of

CUDA = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nGPU 0 has 4 GiB free")
CPU = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 "
    "bytes. Error code 12 (Cannot allocate memory)"
)


def raising(error: Exception) -> Any:
    def run(*args: Any, **kwargs: Any) -> Any:
        raise error

    return run


def line_of(trainer: Any) -> str:
    with pytest.raises(AvstError) as caught:
        trainer.train()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("error", [CUDA, CPU], ids=["CUDA", "CPU"])
def test_in_the_rollout(tiny_folders: dict[str, Path], tmp_path: Path, error: Exception) -> None:
    folder = tiny_folders["qwen2_5_vl"]
    rows = clip_rows(folder)
    trainer = make_trainer(folder, tmp_path, rows, gradient_accumulation_steps=2)
    trainer._sample = raising(error)  # type: ignore[method-assign]
    said = line_of(trainer)
    assert said.startswith(
        "not enough memory for the rollout of 2 prompt(s), 3 answers of up to 16 tokens each; the longest prompt, "
        f"{QUESTIONS[1].id} (clip {QUESTIONS[1].video}), has {len(rows[1].input_ids)} tokens and 6 frames: lower "
        "rollout.max_rows, grpo.max_completion_length, media.total_pixels"
    )  # a clip of 3 s at 2 frames a second
    assert " ".join(str(error).split())[:60] in said


@pytest.mark.parametrize("where", ["forward", "backward"])
def test_in_the_update(tiny_folders: dict[str, Path], tmp_path: Path, where: str) -> None:
    folder = tiny_folders["qwen2_5_vl"]
    rows = clip_rows(folder)
    trainer = make_trainer(folder, tmp_path, rows, gradient_accumulation_steps=2)
    if where == "forward":
        trainer.model.forward = raising(CUDA)
    else:
        trainer.accelerator.backward = raising(CPU)
    said = line_of(trainer)
    tokens = len(rows[0].input_ids) + sum(map(len, given_answers(QUESTIONS[0])))
    assert said.startswith(
        f"not enough memory for the update on 1 prompt(s) and their answers, {tokens} tokens in a row; the longest "
        f"prompt, {QUESTIONS[0].id} (clip {QUESTIONS[0].video}), has {len(rows[0].input_ids)} tokens and 4 frames: "
        "lower grpo.per_device_train_batch_size, media.total_pixels"
    )
    assert "grpo.gradient_checkpointing=true" in said


def test_in_supervised_training(tiny_folders: dict[str, Path], tmp_path: Path) -> None:
    folder = tiny_folders["qwen2_5_vl"]
    trainer = make_sft_trainer(folder, tmp_path, rows_of(folder), 1, 1)
    trainer.model.forward = raising(CUDA)
    said = line_of(trainer)
    first = rows_of(folder)[0][0]
    assert f"update on 1 clip(s); the longest prompt, {first.question.id} (clip {first.question.video})" in said
    assert "lower sft.per_device_train_batch_size" in said


def test_another_error_stays_what_it_is(tiny_folders: dict[str, Path], tmp_path: Path) -> None:
    folder = tiny_folders["qwen2_5_vl"]
    trainer = make_trainer(folder, tmp_path, clip_rows(folder))
    trainer.model.forward = raising(RuntimeError("shapes differ"))
    with pytest.raises(RuntimeError, match="shapes differ"):
        trainer.train()


def test_a_loader_worker_that_the_system_ended_is_no_bug() -> None:
    """The error is torch's own."""
    rows = DataLoader(cast(Any, Vanishing()), num_workers=1)
    with pytest.raises(RuntimeError) as caught:
        list(rows)
    line, status = explain(caught.value, "train")
    assert status == 1
    assert "the system ends processes where memory is short: have fewer loader workers" in line


def test_probabilities_that_are_not_finite_are_no_bug() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.multinomial(torch.tensor([math.nan, 1.0]), 1)
    line, status = explain(caught.value, "train")
    assert status == 1
    assert line.startswith("avst: error: no answer can be drawn, for the model's probabilities are not finite")


class Vanishing:
    """A data set whose worker the system ends."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> int:
        os.kill(os.getpid(), signal.SIGKILL)
        return index
