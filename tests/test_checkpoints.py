"""Checkpoints are whole or not there: sealed, damaged, replaced, thinned out; a full disk."""

from __future__ import annotations

import errno
import json
import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from avst import checkpoints
from avst.checkpoints import MANIFEST, SAVING, found_in, newest_whole, problems, publish, seal, thin_out
from avst.cli import main
from avst.errors import AvstError
from tests.grpo_world import clip_rows, make_trainer, weights


def write(folder: Path, about: dict | None = None) -> Path:
    """A sealed checkpoint of three small files."""
    (folder / "global_step3").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights" * 100)
    torch.save({"a": "rank's"}, folder / "global_step3" / "states.pt")
    (folder / "trainer_state.json").write_text("{}")
    torch.save({"cpu": "random"}, folder / "rng_state.pth")
    seal(folder, about or {"command": "train"})
    return folder


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "one bit": (lambda f: flip(f / "model.safetensors"), "model.safetensors has other content than was written"),
    "cut off": (
        lambda f: (f / "model.safetensors").write_bytes(b"weights" * 99),
        "model.safetensors has 693 bytes of 700",
    ),
    "lost": (lambda f: (f / "global_step3" / "states.pt").unlink(), "global_step3/states.pt is not there"),
    "no manifest": (lambda f: (f / MANIFEST).unlink(), "it has no manifest.json that can be read"),
    "half a manifest": (
        lambda f: (f / MANIFEST).write_text((f / MANIFEST).read_text()[:50]),
        "it has no manifest.json that can be read",
    ),
    "another's manifest": (
        lambda f: (f / MANIFEST).write_text(
            json.dumps({"version": 1, "about": {}, "files": {"../x": {"bytes": 1, "hash": ""}}})
        ),
        "it has no manifest.json that can be read",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_found_and_the_one_before_is_taken(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = write(tmp_path / "checkpoint-9"), write(tmp_path / "checkpoint-10")
    assert problems(second) == []
    assert newest_whole(tmp_path) == second
    damage, words = DAMAGE[name]
    damage(second)
    assert problems(second)[0].startswith(words)
    assert newest_whole(tmp_path) == first
    assert "checkpoint-10 is not whole and is left alone" in caplog.text
    assert second.is_dir()
    assert main(["verify", str(tmp_path)]) == 1
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == f"{first}: whole"
    assert shown[1].startswith(f"{second}: {words}")
    assert main(["verify", str(first)]) == 0


def test_what_a_card_adds_does_no_harm(tmp_path: Path) -> None:
    folder = write(tmp_path / "checkpoint-1")
    (folder / "README.md").write_text("a card, written later")
    assert problems(folder) == []


def test_what_a_crash_leaves_is_no_checkpoint(tmp_path: Path) -> None:
    write(tmp_path / SAVING / "checkpoint-3")
    assert found_in(tmp_path) == []
    (tmp_path / "checkpoint-best").mkdir()
    (tmp_path / "checkpoint-5").symlink_to(tmp_path / SAVING / "checkpoint-3")
    assert found_in(tmp_path) == []


def test_a_step_done_again_replaces_its_checkpoint(tmp_path: Path) -> None:
    write(tmp_path / "checkpoint-3")
    (tmp_path / "checkpoint-3" / "model.safetensors").write_bytes(b"older")
    publish(write(tmp_path / SAVING / "checkpoint-3"), tmp_path / "checkpoint-3")
    assert problems(tmp_path / "checkpoint-3") == []
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != SAVING) == ["checkpoint-3"]


def test_the_last_whole_one_is_never_thinned_out(tmp_path: Path) -> None:
    for step in (1, 2, 3, 4):
        write(tmp_path / f"checkpoint-{step}")
    for step in (3, 4):
        (tmp_path / f"checkpoint-{step}" / MANIFEST).unlink()
    thin_out(tmp_path, 1)
    assert [c.step for c in found_in(tmp_path)] == [2, 3, 4]  # partial ones do not count and are left alone
    thin_out(tmp_path, None)
    assert [c.step for c in found_in(tmp_path)] == [2, 3, 4]
    write(tmp_path / "checkpoint-5")
    thin_out(tmp_path, 1, tmp_path / "checkpoint-2")
    assert [c.step for c in found_in(tmp_path)] == [2, 3, 4, 5]  # the best one stays too
    thin_out(tmp_path, 1)
    assert [c.step for c in found_in(tmp_path)] == [3, 4, 5]


OPTIONS = {"max_steps": 2, "save_strategy": "steps", "save_steps": 1, "optim": "adamw_torch"}


def test_a_disk_without_room_is_said_before_anything_is_written(
    tiny_folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny_folders["qwen2_5_vl"]
    trainer = make_trainer(folder, tmp_path / "out", clip_rows(folder), **OPTIONS)
    usage = namedtuple("usage", "total used free")
    steps: list[int] = []

    def free(path: object) -> usage:
        steps.append(trainer.state.global_step)
        return usage(1, 1, 10**12 if trainer.state.global_step < 2 else 1_000_000)

    monkeypatch.setattr(checkpoints.shutil, "disk_usage", free)
    with pytest.raises(AvstError, match=r"a checkpoint takes .* 1\.00 MB are free, .* missing; checkpoint-1 is kept"):
        trainer.train()
    assert steps[0] == 1
    assert [c.step for c in found_in(tmp_path / "out", hashes=True) if c.whole] == [1]
    assert not (tmp_path / "out" / SAVING).exists()
    # what it said it takes is what one takes, but for the tokenizer's files
    size = sum(p.stat().st_size for p in (tmp_path / "out" / "checkpoint-1").rglob("*") if p.is_file())
    weights_and_state = sum(
        (tmp_path / "out" / "checkpoint-1" / name).stat().st_size for name in ("model.safetensors", "optimizer.pt")
    )
    assert weights_and_state <= trainer.checkpoint_bytes() <= 1.2 * size


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("PytorchStreamWriter: unexpected pos 64")]
)
def test_a_disk_that_fills_up_while_writing_leaves_the_old_one(
    tiny_folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    folder = tiny_folders["qwen2_5_vl"]
    trainer = make_trainer(folder, tmp_path / "out", clip_rows(folder), **OPTIONS)
    real = torch.save

    def save(value: object, file: object, *args: object, **kwargs: object) -> None:
        if trainer.state.global_step == 2 and "optimizer" in str(file):
            Path(str(file)).write_bytes(b"half")
            raise error
        real(value, file, *args, **kwargs)

    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(AvstError, match=r"the disk is full: .*checkpoint-1 is kept"):
        trainer.train()
    assert [c.step for c in found_in(tmp_path / "out", hashes=True)] == [1]
    assert not (tmp_path / "out" / SAVING).exists()


def test_saving_changes_nothing(tiny_folders: dict[str, Path], tmp_path: Path) -> None:
    folder = tiny_folders["qwen2_5_vl"]
    runs = [
        make_trainer(folder, tmp_path / name, clip_rows(folder), **{**OPTIONS, "save_strategy": name})
        for name in ("no", "steps")
    ]
    for run in runs:
        run.train()
    assert all(torch.equal(a, b) for a, b in zip(*(weights(run).values() for run in runs), strict=True))
    assert not list((tmp_path / "no").glob("checkpoint-*"))
    shutil.rmtree(tmp_path / "steps")
