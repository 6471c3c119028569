"""Going on from a checkpoint runs nothing that its files may hold."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from avst.checkpoints import seal
from avst.errors import AvstError
from avst.going_on import choose
from avst.pickles import KNOWN, foreign
from tests.grpo_world import clip_rows, make_trainer
from tests.security.canary import Canary
from tests.test_checkpoints import write
from tests.test_going_on import ABOUT


@pytest.fixture(scope="module")
def checkpoint(tiny_folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a real run of one step."""
    out = tmp_path_factory.mktemp("run")
    folder = tiny_folders["qwen2_5_vl"]
    make_trainer(folder, out, clip_rows(folder, 1), save_strategy="steps", save_steps=1, optim="adamw_torch").train()
    return out / "checkpoint-1"


def test_the_trainers_own_files_are_taken(checkpoint: Path) -> None:
    """What a run writes needs no flag."""
    files = [checkpoint / name for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth")]
    assert [foreign(file) for file in files] == [[], [], []]


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth"])
def test_a_state_that_runs_code_is_not_opened(
    name: str, checkpoint: Path, tiny_folders: dict[str, Path], tmp_path: Path, canary: Canary
) -> None:
    """The second line of defence, without avst.pickles: the Trainer itself goes on from it."""
    folder = tiny_folders["qwen2_5_vl"]
    kept = (checkpoint / name).read_bytes()
    torch.save({"state": canary.pickled()}, checkpoint / name)
    trainer = make_trainer(folder, tmp_path / "out", clip_rows(folder, 1), max_steps=2, optim="adamw_torch")
    try:
        with pytest.raises(AvstError, match="its states hold more than numbers"):
            trainer.train(resume_from_checkpoint=str(checkpoint))
    finally:
        (checkpoint / name).write_bytes(kept)
    assert not canary.dead


@pytest.mark.parametrize(
    "name", ["optimizer.pt", "global_step3/states.pt", "global_step3/more.PTH", "adapter_model.bin"]
)
def test_what_deepspeed_would_open_is_looked_through_first(name: str, tmp_path: Path, canary: Canary) -> None:
    """DeepSpeed opens its ranks' files as ordinary pickles, so the guard stands before any of it begins. The checkpoint
    is whole: its hashes are those of the sly file."""
    folder = write(tmp_path / "checkpoint-2", ABOUT)
    assert choose(tmp_path, "latest", ABOUT, False) == folder
    torch.save({"x": canary.pickled()}, folder / name)
    seal(folder, ABOUT)
    for resume in ("latest", str(folder)):
        with pytest.raises(AvstError, match=r"refused, opening it may run code: .*open.*--model"):
            choose(tmp_path, resume, ABOUT, True)
    assert not canary.dead


def plain_pickle(file: Path, canary: Canary) -> None:
    with file.open("wb") as out:
        pickle.dump(canary.pickled(), out)


@pytest.mark.parametrize(
    ("name", "words"),
    [("global_step3/states.pt", "not what torch.save writes"), (".metadata", "distributed.checkpoint")],
)
def test_what_cannot_be_looked_through_is_refused(name: str, words: str, tmp_path: Path, canary: Canary) -> None:
    folder = write(tmp_path / "checkpoint-2", ABOUT)
    plain_pickle(folder / name, canary)
    seal(folder, ABOUT)
    with pytest.raises(AvstError, match=words):
        choose(tmp_path, "latest", ABOUT, False)
    assert not canary.dead


def test_records_of_deepspeed_are_known_by_their_full_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real ZeRO-2 checkpoint of DeepSpeed 0.19.8 named LossScaler, ZeroStageEnum and fragment_address; a neighbour of
    theirs is refused."""
    import sys
    from types import ModuleType

    module = "deepspeed.runtime.fp16.loss_scaler"
    for depth in range(1, 5):
        name = ".".join(module.split(".")[:depth])
        monkeypatch.setitem(sys.modules, name, ModuleType(name))

    def saved(name: str) -> Path:
        made: Any = type(name, (), {"__module__": module})
        monkeypatch.setattr(sys.modules[module], name, made, raising=False)
        torch.save({"scaler": made()}, tmp_path / f"{name}.pt")
        return tmp_path / f"{name}.pt"

    assert f"{module}.LossScaler" in KNOWN
    assert foreign(saved("LossScaler")) == []
    assert foreign(saved("Launcher")) == [f"{module}.Launcher"]


@pytest.mark.parametrize("tag", ["../elsewhere", "/elsewhere", "global_step3/.."])
def test_the_tag_of_a_deepspeed_checkpoint_leads_nowhere_else(tag: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "checkpoint-2", ABOUT)
    (folder / "latest").write_text(tag)
    seal(folder, ABOUT)
    with pytest.raises(AvstError, match="latest: refused, it names"):
        choose(tmp_path, "latest", ABOUT, False)
    (folder / "latest").write_text("global_step3\n")
    seal(folder, ABOUT)
    assert choose(tmp_path, "latest", ABOUT, False) == folder


def test_what_a_link_leads_to_is_not_looked_through_so_there_are_none(tmp_path: Path, canary: Canary) -> None:
    """A linked folder is not walked into, and DeepSpeed would read from it."""
    folder = write(tmp_path / "run" / "checkpoint-2", ABOUT)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    torch.save({"x": canary.pickled()}, elsewhere / "mp_rank_00_model_states.pt")
    (folder / "global_step2").symlink_to(elsewhere)
    with pytest.raises(AvstError, match="refused, a checkpoint has no links"):
        choose(tmp_path / "run", "latest", ABOUT, True)
    assert not canary.dead
