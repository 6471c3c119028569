"""Folders of clips: the same for any number of workers, resumed, and never lost to a failure."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avst.commands import synth
from avst.errors import AvstError
from avst.scenes import synthesise as module
from avst.scenes.plan import Scene
from avst.scenes.settings import make_settings
from avst.scenes.synthesise import synthesise
from avst.tasks.r_avst import load_annotations
from tests.scenes.decoded import decode

TINY = make_settings(
    "quickstart", duration_s=(3.0, 3.0), sound_s=(1.0, 1.0), resolutions=((48, 32), (32, 48)), fps=("4",)
)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_workers_change_nothing_and_splits_are_disjoint(tmp_path: Path) -> None:
    made = synthesise(tmp_path / "one", 5, 3, TINY, n_eval=2)
    synthesise(tmp_path / "two", 5, 3, TINY, n_eval=2, workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    train, evaluated = (load_annotations(made.annotations[s]) for s in ("train", "eval"))
    assert made.n_clips == {"train": 3, "eval": 2}
    assert made.n_questions == {"train": len(train), "eval": len(evaluated)}
    assert not {q.video for q in train} & {q.video for q in evaluated}
    assert {p.stem for p in made.videos.iterdir()} == {q.video for q in train + evaluated}
    clip = decode(next(iter(sorted(made.videos.iterdir()))))
    assert clip.frames.shape[0] == 12
    assert len(np.unique(clip.frames)) > 20


def test_another_seed_gives_other_clips(tmp_path: Path) -> None:
    synthesise(tmp_path / "a", 1, 0, TINY, n_eval=0)
    synthesise(tmp_path / "b", 1, 1, TINY, n_eval=0)
    a, b = (next((tmp_path / name / "videos").iterdir()) for name in "ab")
    assert a.name != b.name
    assert a.read_bytes() != b.read_bytes()


def test_a_longer_set_goes_on_from_a_shorter_one(tmp_path: Path) -> None:
    synthesise(tmp_path / "a", 2, 0, TINY, n_eval=0)
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "a" / "videos").iterdir()}
    rendered: list[tuple[int, int]] = []
    synthesise(tmp_path / "a", 4, 0, TINY, n_eval=1, on_done=lambda done, total: rendered.append((done, total)))
    assert rendered == [(1, 2), (2, 2)]
    assert {p.name: p.stat().st_mtime_ns for p in (tmp_path / "a" / "videos").iterdir() if p.name in before} == before
    synthesise(tmp_path / "b", 4, 0, TINY, n_eval=1)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_what_was_written_before_a_failure_stays_and_is_annotated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = module.write_clip

    def fails_at_the_third(path: Path, *rest: Any) -> None:
        if path.stem.endswith("2"):
            raise AvstError(f"{path}: cannot write the clip: no space left")
        real(path, *rest)

    monkeypatch.setattr(module, "write_clip", fails_at_the_third)
    with pytest.raises(AvstError, match="scene0_00002"):
        synthesise(tmp_path, 4, 0, TINY, n_eval=1)
    names = [entry["video_name"] for entry in json.loads((tmp_path / "annotations_train.json").read_text())]
    assert names == ["scene0_00000", "scene0_00001"]
    assert {p.name for p in (tmp_path / "videos").iterdir()} == {f"{name}.mp4" for name in names}
    monkeypatch.undo()
    assert synthesise(tmp_path, 4, 0, TINY, n_eval=1).n_clips == {"train": 3, "eval": 1}


def test_an_encoder_that_fails_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(scene: Scene) -> Iterator[np.ndarray]:
        yield np.zeros((scene.size[1], scene.size[0], 3), np.uint8)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "scene_frames", full_disk)
    with pytest.raises(AvstError, match=r"scene0_00000.mp4: cannot write the clip: .*No space"):
        synthesise(tmp_path, 1, 0, TINY, n_eval=0)
    assert list((tmp_path / "videos").iterdir()) == []


def test_a_folder_of_other_clips_is_left_alone(tmp_path: Path) -> None:
    synthesise(tmp_path / "a", 1, 0, TINY, n_eval=0)
    with pytest.raises(AvstError, match="made otherwise"):
        synthesise(tmp_path / "a", 1, 1, TINY, n_eval=0)
    assert synthesise(tmp_path / "a", 1, 1, TINY, n_eval=0, overwrite=True).n_clips["train"] == 1
    assert [p.name for p in (tmp_path / "a" / "videos").iterdir()] == ["scene1_00000.mp4"]
    (tmp_path / "b" / "videos").mkdir(parents=True)
    (tmp_path / "b" / "videos" / "mine.mp4").write_bytes(b"mine")
    with pytest.raises(AvstError, match="did not write"):
        synthesise(tmp_path / "b", 1, 0, TINY, n_eval=0, overwrite=True)
    (tmp_path / "c").write_text("a file")
    with pytest.raises(AvstError, match="c"):
        synthesise(tmp_path / "c", 1, 0, TINY, n_eval=0)


@pytest.mark.parametrize(("n", "held_out"), [(1, 0), (2, 1), (3, 1), (10, 2)])
def test_a_fifth_is_held_out_and_never_none_of_two(tmp_path: Path, n: int, held_out: int) -> None:
    made = synthesise(tmp_path, n, 0, TINY)
    assert made.n_clips == {"train": n - held_out, "eval": held_out}


@pytest.mark.parametrize(("n", "n_eval", "seed"), [(0, 0, 0), (3, 4, 0), (3, -1, 0), (3, 1, -1)])
def test_counts_that_cannot_be_are_refused(tmp_path: Path, n: int, n_eval: int, seed: int) -> None:
    with pytest.raises(AvstError, match="synth"):
        synthesise(tmp_path, n, seed, TINY, n_eval=n_eval)


def run(*words: str) -> int:
    parser = argparse.ArgumentParser()
    synth.add_arguments(parser)
    return synth.run(parser.parse_args(words))


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = "--n 3 --eval 1 --difficulty quickstart --duration 3-4 --sound 1 --resolutions 48x32 --fps 4 --grid 1"
    options += " --silent 1 --hidden 0"
    assert run(str(tmp_path / "o"), *options.split(), "--tasks", "st,spatial", "--names", "cat,door bell") == 0
    said = capsys.readouterr()
    assert "2 clips with" in said.out
    assert "clip 3 of 3" in said.err
    questions = load_annotations(tmp_path / "o" / "annotations_train.json")
    assert {q.task for q in questions} == {"st", "spatial"}
    assert {name for q in questions for name in q.gold_names} == {"cat", "door bell"}
    assert {q.duration_s for q in questions} <= {3.0, 4.0}


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("--scale 0.5", "--scale"),
        ("--from-annotations x.json --n 3", "--n "),
        ("--from-annotations x.json --duration 3", "--duration"),
        ("--from-annotations x.json --object-size 0.3", "--object-size"),
        ("--from-annotations x.json --sounding 2", "--sounding"),
        ("--from-annotations x.json --fps 2,3", "--fps"),
        ("--from-annotations missing.json", "missing.json"),
        ("--workers 0", "--workers"),
        ("--duration 9-3", "duration_s"),
    ],
)
def test_options_that_do_not_go_together(tmp_path: Path, words: str, named: str) -> None:
    with pytest.raises(AvstError, match=named):
        run(str(tmp_path / "o"), *words.split())
    assert not list(tmp_path.rglob("*.mp4"))
