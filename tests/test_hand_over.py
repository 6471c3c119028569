"""Rows from loader workers: the same rows, order and errors, however little shared memory there is."""

from __future__ import annotations

import logging
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from avst import hand_over
from avst.data import PromptDataset, Source, StepRows
from avst.errors import AvstError
from avst.hand_over import LARGE_BYTES, Parcel, opened
from avst.media import MediaError, MediaSettings, close_workers
from avst.types import Prompt
from tests.grpo_world import logged, make_trainer, weights
from tests.media.make_media import Film, tone, write
from tests.tiny_world import make_builder, make_question

N = 5


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five films of 1 to 3 seconds with sound, each of another length."""
    root = tmp_path_factory.mktemp("videos")
    for i in range(N):
        seconds = 1 + i / 2
        sound = tone(200 * (i + 1), seconds, 48000)[None]
        write(root / f"clip{i}.mp4", Film([k / 25 for k in range(round(25 * seconds))], sound=sound))
    return root


@pytest.fixture
def rows(videos: Path, tiny_folders: dict[str, Path]) -> Any:
    yield PromptDataset(
        [make_question(i) for i in range(N)],
        make_builder(tiny_folders["qwen2_5_omni"]),
        Source(videos, MediaSettings(fps=4.0), {"max_pixels": 84 * 56, "min_pixels": 28 * 28}),
    )
    close_workers()


def loader(rows: Any, workers: int) -> DataLoader[Any]:
    return DataLoader(
        StepRows(rows), 2, sampler=[(i, 0) for i in range(len(rows))], num_workers=workers, collate_fn=list
    )


def assert_same(one: Prompt, other: Prompt) -> None:
    assert (one.question, one.space, one.clip_digest) == (other.question, other.space, other.clip_digest)
    assert list(one.media) == list(other.media)
    for name, value in {"input_ids": one.input_ids, **one.media}.items():
        twin = other.input_ids if name == "input_ids" else other.media[name]
        if isinstance(value, torch.Tensor):
            assert value.dtype == twin.dtype
            assert torch.equal(value, twin), name
        else:
            assert value == twin


def test_rows_are_the_same_with_and_without_workers(rows: Any) -> None:
    here = [row for batch in loader(rows, 0) for row in opened(batch)]
    there = [row for batch in loader(rows, 2) for row in opened(batch)]
    assert [row.question.id for row in there] == [f"clip{i}/0/temporal/0" for i in range(N)]
    assert (
        max(v.nbytes for row in here for v in row.media.values() if isinstance(v, torch.Tensor)) > LARGE_BYTES
    )  # both ways are used
    for one, other in zip(here, there, strict=True):
        assert_same(one, other)


def test_without_shared_memory_rows_travel_as_bytes(rows: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)")

    here = [rows[i] for i in range(N)]
    monkeypatch.setattr(torch.Tensor, "share_memory_", full)  # the workers are forked, so they have it too
    there = [row for batch in loader(rows, 2) for row in opened(batch)]
    for one, other in zip(here, there, strict=True):
        assert_same(one, other)


def test_too_little_shared_memory_is_said_once(monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    shares = torch.Tensor.share_memory_
    left = [1]

    def nearly_full(tensor: torch.Tensor) -> torch.Tensor:
        if not left:
            raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left (28)")
        left.pop()
        return shares(tensor)

    monkeypatch.setattr(hand_over, "_warned", False)
    monkeypatch.setattr(torch.Tensor, "share_memory_", nearly_full)
    row = {"a": torch.randn(LARGE_BYTES), "b": torch.randn(LARGE_BYTES), "c": torch.arange(3)}
    with caplog.at_level(logging.WARNING):
        parcels = [Parcel(row), Parcel(row)]
    for parcel in parcels:
        assert parcel.large == []
        assert all(torch.equal(parcel.open()[name], row[name]) for name in row)
    assert [record.getMessage().count("--shm-size") for record in caplog.records] == [1]


def test_only_what_a_view_shows_is_shared() -> None:
    whole = torch.randn(100, LARGE_BYTES)
    parcel = Parcel({"row": whole[3], "column": whole[:, ::2]})
    assert [t.untyped_storage().nbytes() for t in parcel.large] == [t.nbytes for t in parcel.large]
    assert not whole.is_shared()
    found = parcel.open()
    assert torch.equal(found["row"], whole[3])
    assert torch.equal(found["column"], whole[:, ::2])


def test_other_errors_of_sharing_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("something else")

    monkeypatch.setattr(torch.Tensor, "share_memory_", broken)
    with pytest.raises(RuntimeError, match="something else"):
        Parcel(torch.randn(LARGE_BYTES))


def said(rows: Any, workers: int) -> tuple[type, str, int]:
    """(class, message, batches that came before) of the error that ends a loop over all rows."""
    n = 0
    try:
        for batch in loader(rows, workers):
            opened(batch)
            n += 1
    except AvstError as error:
        return type(error), str(error), n
    raise AssertionError("no error")


def test_a_bad_clip_is_the_same_line_with_and_without_workers(rows: Any, videos: Path, tmp_path: Path) -> None:
    for path in videos.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "clip3.mp4").write_text("no video at all")
    bad = PromptDataset(rows.questions, rows.builder, Source(tmp_path, rows.source.media, rows.source.bounds))
    here, there = said(bad, 0), said(bad, 2)
    assert here == there
    assert here[0] is MediaError
    assert here[2] == 1  # the second batch
    assert here[1].startswith("clip3/0/temporal/0: ")
    assert "a text file, not a video" in here[1]
    assert "\n" not in here[1]


class Faulty(Dataset[Any]):
    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Any:
        raise ZeroDivisionError("a bug")


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError, match="in __getitem__"):
        next(iter(loader(Faulty(), 1)))


@pytest.mark.parametrize("iterations", [1, 2])
def test_a_run_is_the_same_with_and_without_workers(
    rows: Any, tiny_folders: dict[str, Path], tmp_path: Path, iterations: int
) -> None:
    """Two prompts a step over three shuffled epochs, answers drawn anew: losses, lengths and weights agree exactly."""
    from avst.trainer import GRPOTrainer

    found = []
    for workers in (0, 2):
        trainer = make_trainer(
            tiny_folders["qwen2_5_omni"],
            tmp_path / str(workers),
            rows=[],
            trainer_class=GRPOTrainer,
            gradient_accumulation_steps=2,
            num_iterations=iterations,
            max_steps=-1,
            num_train_epochs=3,
            shuffle_dataset=True,
            dataloader_num_workers=workers,
            dataloader_persistent_workers=workers > 0,
            dataloader_prefetch_factor=iterations if workers else None,
        )
        trainer.train_dataset = rows
        trainer.train()
        figures = [logged(trainer, name) for name in ("loss", "reward", "completions/mean_length")]
        found.append((figures, weights(trainer)))
    (figures, trained), (others, twin) = found
    assert figures == others
    assert len(set(figures[1])) > 1
    assert all(torch.equal(trained[name], twin[name]) for name in trained)


def test_no_process_outlives_a_run(rows: Any) -> None:
    """Loader workers, and the decoding workers that they started, are gone when the process that began them is."""
    program = f"""
        import os, sys
        from pathlib import Path
        sys.path.insert(0, {str(Path(__file__).resolve().parents[1])!r})
        from torch.utils.data import DataLoader
        from avst.data import StepRows
        from avst.media import load_clip

        class Clips:
            def __len__(self):
                return 6

            def __getitem__(self, index):
                load_clip({str(rows.source.videos / "clip0.mp4")!r})
                return os.getpid()

        from avst.hand_over import opened
        asked = [(i, 0) for i in range(6)]
        loader = DataLoader(StepRows(Clips()), None, sampler=asked, num_workers=2, persistent_workers=True)
        workers = {{parcel.open() for parcel in loader}}
        assert os.getpid() not in workers
        children = [
            int(line.parent.name)
            for line in Path("/proc").glob("[0-9]*/status")
            if any(f"PPid:\\t{{pid}}\\n" in line.read_text() for pid in workers)
        ]
        print(*workers, *children)
        """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    pids = [int(pid) for pid in done.stdout.split()]
    assert len(pids) == 4
    from tests.media.test_process import gone

    assert all(gone(pid, 5.0) for pid in pids)


def test_the_data_set_can_be_sent_to_spawned_workers(rows: Any) -> None:
    twin = pickle.loads(pickle.dumps(StepRows(rows)))
    assert_same(twin[0, 0], rows[0])
