"""What `avst train` and `avst sft` set for the data loader, and what a bad clip looks like from there."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset
from transformers import TrainingArguments
from trl import GRPOConfig

from avst import cli, hand_over, runs
from avst.data import StepRows
from avst.hand_over import opened
from avst.media import close_workers, load, probe
from tests.media.make_media import Film, write


@pytest.fixture
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs.os, "cpu_count", lambda: 4)


def settings(args: TrainingArguments) -> tuple[int, bool, int | None]:
    return args.dataloader_num_workers, args.dataloader_persistent_workers, args.dataloader_prefetch_factor


def grpo(tmp_path: Path, **options: Any) -> GRPOConfig:
    return GRPOConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to="none", **options)


@pytest.mark.parametrize(
    ("options", "ahead"),
    [
        ({}, 1),  # a batch for each of two workers
        ({"gradient_accumulation_steps": 8}, 4),  # the next optimizer step's eight
        ({"gradient_accumulation_steps": 3, "num_iterations": 3}, 5),  # nine, of which six cost nothing
    ],
)
def test_workers_by_default_make_one_step_ahead(
    tmp_path: Path, four_cores: None, options: dict[str, int], ahead: int
) -> None:
    args = grpo(tmp_path, **options)
    runs.set_loader(args, options, in_memory=False)
    assert settings(args) == (2, True, ahead)


def test_sft_has_no_iterations(tmp_path: Path, four_cores: None) -> None:
    args = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, gradient_accumulation_steps=4)
    runs.set_loader(args, {}, in_memory=False)
    assert settings(args) == (2, True, 2)


def test_rows_kept_in_memory_are_made_here(tmp_path: Path, four_cores: None, caplog: Any) -> None:
    args = grpo(tmp_path)
    runs.set_loader(args, {}, in_memory=True)
    assert settings(args) == (0, False, None)
    said = {"dataloader_num_workers": 3}
    args = grpo(tmp_path, **said)
    with caplog.at_level(logging.WARNING):
        runs.set_loader(args, said, in_memory=True)
    assert args.dataloader_num_workers == 3
    assert "each worker keeps its own copy" in caplog.text


def test_what_the_recipe_says_stands(tmp_path: Path, four_cores: None) -> None:
    said = {"dataloader_num_workers": 4, "dataloader_persistent_workers": False, "dataloader_prefetch_factor": 7}
    args = grpo(tmp_path, **said)
    runs.set_loader(args, said, in_memory=False)
    assert settings(args) == (4, False, 7)
    none = {"dataloader_num_workers": 0}
    args = grpo(tmp_path, **none)
    runs.set_loader(args, none, in_memory=False)
    assert settings(args) == (0, False, None)


def test_one_core_has_nothing_to_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs.os, "cpu_count", lambda: 1)
    args = grpo(tmp_path)
    runs.set_loader(args, {}, in_memory=False)
    assert settings(args) == (0, False, None)


class Surroundings(Dataset[Any]):
    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Any:
        return os.environ.get("AVST_DECODER_THREADS"), hand_over._settle_in.cache_info().currsize


@pytest.mark.parametrize(("said", "found"), [(None, "1"), ("3", "3")])
def test_a_worker_decodes_with_one_thread_unless_told(
    monkeypatch: pytest.MonkeyPatch, said: str | None, found: str
) -> None:
    monkeypatch.delenv("AVST_DECODER_THREADS", raising=False)
    if said:
        monkeypatch.setenv("AVST_DECODER_THREADS", said)
    loader = DataLoader(StepRows(Surroundings()), None, sampler=[(0, 0)], num_workers=1)
    assert opened(list(loader)) == [(found, 1)]
    assert os.environ.get("AVST_DECODER_THREADS") == said  # nothing changes here
    assert StepRows(Surroundings())[0, 0] == (said, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, and other systems' allocators keep less")
def test_freed_blocks_go_back_to_the_system() -> None:
    """After a run of blocks of odd sizes a worker holds no more than before."""
    loader = DataLoader(StepRows(Blocks()), None, sampler=[(i, 0) for i in range(40)], num_workers=1)
    held = opened(loader)
    assert held[-1] < held[1] + 40


class Blocks(Dataset[Any]):
    """Two blocks that grow, the second one kept over the next row: what fragments a heap. A row: anonymous MB held."""

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> float:
        block = torch.ones((9 + index % 7) << 18)
        self.kept = block[: 9 << 18].clone()
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1e3


def test_a_file_is_probed_again_only_when_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.mp4", Film([i / 25 for i in range(10)]))
    first = probe(path)
    asked: list[Any] = []
    really = load._probe
    monkeypatch.setattr(load, "_probe", lambda *given: asked.append(given) or really(*given))
    assert probe(str(path)) == first
    assert asked == []
    write(path, Film([i / 25 for i in range(20)]))
    assert (probe(path).n_frames, len(asked)) == (20, 1)
    close_workers()


@pytest.mark.parametrize("command", ["train", "sft"])
def test_a_bad_clip_is_one_line_from_the_command_with_and_without_workers(
    command: str, tmp_path: Path, tiny_folders: dict[str, Path], four_cores: None, monkeypatch: Any, capfd: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["synth", "scenes", "--n", "4", "--seed", "0", "--difficulty", "quickstart"]) == 0
    for path in (tmp_path / "scenes" / "videos").iterdir():
        path.write_text("no video at all")
    (tmp_path / "bad.yaml").write_text(
        f"""
name: bad
model: {{ path: {tiny_folders["qwen2_5_omni"]}, dtype: float32 }}
data: {{ train: scenes/annotations_train.json, videos: scenes/videos }}
sft: {{ max_steps: 1, per_device_train_batch_size: 1, use_cpu: true, bf16: false }}
grpo: {{ max_steps: 1, num_generations: 2, per_device_train_batch_size: 2, use_cpu: true, bf16: false,
         gradient_checkpointing: false }}
"""
    )
    section = "grpo" if command == "train" else "sft"
    lines = []
    for option in ([], [f"{section}.dataloader_num_workers=0"]):
        capfd.readouterr()
        assert cli.main([command, "bad.yaml", "--overwrite", *option]) == 1
        lines.append([line for line in capfd.readouterr().err.splitlines() if "error" in line])
    close_workers()
    assert lines[0] == lines[1]
    assert len(lines[0]) == 1
    assert lines[0][0].startswith("avst: error: scene")
    assert lines[0][0].endswith(".mp4: a text file, not a video")
