"""The data under a run: a clip that goes, annotations that change, a folder that is gone; in training, supervised
training and evaluation."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from avst import cli, evaluate
from tests.faults.conftest import figures
from tests.media.make_media import Film, tone, write

# a reward that does something to the data when the first step's answers come
ACT = """
import json, os, pathlib, shutil

def act(prompts, completions, completion_ids, **columns):
    marker = pathlib.Path("acted")
    if not marker.exists():
        marker.touch()
        {act}
    return [sum(ids) % 7 / 6 for ids in completion_ids]
"""


def acting(place: Path, act: str) -> list[str]:
    (place / "act.py").write_text(ACT.format(act=act))
    return ["rewards.sevenths.use=./act.py:act", "grpo.dataloader_num_workers=0"]


def test_a_clip_that_goes_is_skipped_once_an_epoch(
    place: Path, names: list[str], warned: Callable[[], list[str]]
) -> None:
    """Deleted while the first of five questions is answered; two epochs follow, each with one question less."""
    gone = f"os.unlink('scenes/videos/{names[0]}.mp4')"
    options = [*acting(place, gone), "grpo.max_steps=10", "media.on_error=skip", "media.cache_dir=cache", "seed=1"]
    assert cli.main(["train", "faults.yaml", *options]) == 0
    skipped = [row["samples/skipped"] for row in figures(place / "run")]
    assert skipped[0] == 0
    assert (sum(skipped[:5]), sum(skipped[5:])) == (1, 1)
    lines = [line for line in warned() if "skipped" in line]
    assert len(lines) == 2
    assert all(f"{names[0]}.mp4: no such video" in line for line in lines)


def test_a_folder_of_videos_that_is_gone_ends_the_run_though_clips_may_be_skipped(
    place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """An unmounted disk: each clip would be skipped, and days of nothing learned."""
    options = [*acting(place, "os.rename('scenes/videos', 'elsewhere')"), "grpo.max_steps=5", "media.on_error=skip"]
    assert cli.main(["train", "faults.yaml", *options]) == 1
    errors = [line for line in capfd.readouterr().err.splitlines() if "error" in line]
    assert len(errors) == 1
    assert errors[0].endswith("videos folder scenes/videos: No such file or directory")
    assert len(figures(place / "run")) <= 2


def test_annotations_are_read_once_and_a_changed_file_is_not_gone_on_with(
    place: Path, names: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    """Overwritten at the first of four steps: the run is the undisturbed one; going on from its checkpoint is refused,
    and names the file."""
    file = "scenes/annotations_train.json"
    change = f"f = pathlib.Path({file!r}); f.write_text(json.dumps(json.loads(f.read_text())[:2]))"
    options = [*acting(place, change), "grpo.max_steps=4", "grpo.save_strategy=steps", "grpo.save_steps=2"]
    whole = place / "whole.json"
    shutil.copy(place / file, whole)
    assert cli.main(["train", "faults.yaml", *options]) == 0
    disturbed = figures(place / "run")
    assert len(json.loads((place / file).read_text())) == 2
    capfd.readouterr()
    shutil.rmtree(place / "run" / "final")
    assert cli.main(["train", "faults.yaml", *options, "--resume"]) == 1
    (said,) = [line for line in capfd.readouterr().err.splitlines() if "error" in line]
    assert f"was made by another run: data.{file} is" in said
    assert "--allow-changes" in said
    shutil.copy(whole, place / file)
    assert cli.main(["train", "faults.yaml", *options, "--output-dir", "calm"]) == 0
    calm = figures(place / "calm")
    same = ("step", "loss", "reward", "grad_norm", "samples/skipped", "completions/tokens")
    assert [[row.get(n) for n in same] for row in disturbed] == [[row.get(n) for n in same] for row in calm]


def test_supervised_training_counts_questions_since_the_last_line(place: Path, names: list[str]) -> None:
    """A missing clip with two questions among five: two in the epoch's lines, not one, and not again in each."""
    file = place / "scenes" / "annotations_train.json"
    entries = json.loads(file.read_text())
    event = entries[0]["annotation"][0]
    task = next(key for key, value in event.items() if isinstance(value, list))
    event[task].append({**event[task][0], "Q": event[task][0]["Q"] + " Say it."})
    file.write_text(json.dumps(entries))
    (place / "scenes" / "videos" / f"{names[0]}.mp4").unlink()
    options = ["sft.max_steps=5", "sft.dataloader_num_workers=0", "media.on_error=skip"]
    assert cli.main(["sft", "faults.yaml", *options]) == 0
    rows = [json.loads(line) for line in (place / "run-sft" / "metrics.jsonl").read_text().splitlines()]
    assert sorted(row["samples/skipped"] for row in rows if "loss" in row) == [0, 0, 0, 0, 2]


def test_an_evaluation_is_of_the_questions_that_were_asked(
    place: Path, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file loses three of its five questions while they are answered: scores and table are of all five."""
    file = place / "scenes" / "annotations_train.json"
    answer = evaluate._answer

    def meanwhile(*given):
        file.write_text(json.dumps(json.loads(file.read_text())[:2]))
        yield from answer(*given)

    monkeypatch.setattr(evaluate, "_answer", meanwhile)
    assert cli.main(["eval", "faults.yaml", "--out", "eval"]) == 0
    found = list((place / "eval").rglob("scores.json"))
    assert len(found) == 1
    scores = json.loads(found[0].read_text())
    assert len(scores["questions"]) == 5
    assert sum(task["n"] for task in scores["metrics"].values()) == 5
    tables = list((place / "eval").rglob("table.json"))
    assert len(tables) == 2  # the model's own, and that of all models
    for table in tables:
        rows = {(row["task"], row["n"]) for row in json.loads(table.read_text())["records"]}
        assert sum(n for _, n in rows) == 5


@pytest.mark.parametrize("skip", [True, False])
def test_a_clip_that_no_prompt_can_hold_is_skipped_by_an_evaluation_too(
    skip: bool, place: Path, names: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    """Its sound is longer than the model hears (12 s): found when the prompt is made, not when the clip is read."""
    long = Film([i / 5 for i in range(65)], last_s=0.2, size=(64, 48), sound=tone(440, 13, 16000)[None])
    long.sound_rate = 16000
    path = place / "scenes" / "videos" / f"{names[2]}.mp4"
    path.unlink()
    write(path, long)
    status = cli.main(["eval", "faults.yaml", "--out", "eval", *(["media.on_error=skip"] if skip else [])])
    assert status == (0 if skip else 1)
    said = "s of sound; this model's processor cuts at 12 s"
    if not skip:
        (error,) = [line for line in capfd.readouterr().err.splitlines() if "error" in line]
        assert error.startswith(f"avst: error: {names[2]}/")
        assert error.endswith(said)
        return
    (found,) = (place / "eval").rglob("scores.json")
    scores = json.loads(found.read_text())
    assert [why.endswith(said) for why in scores["skipped"].values()] == [True]
    assert len(scores["questions"]) == 5  # the skipped one counts 0 in every figure
    assert "1 of 5 questions skipped because their clip cannot be read" in (found.parent / "table.txt").read_text()


def test_silent_and_single_frame_clips_are_refused(place: Path, names: list[str]) -> None:
    """A track is missing, or all but one picture: no prompt is made of them, and the others are answered."""
    videos = place / "scenes" / "videos"
    for name in names[:3]:
        (videos / f"{name}.mp4").unlink()
    write(videos / f"{names[0]}.mp4", Film([i / 10 for i in range(20)], last_s=0.1))
    sound = tone(440, 2, 16000)[None]
    write(videos / f"{names[1]}.mp4", Film([0.0], last_s=2.0, sound=sound, sound_rate=16000))
    write(
        videos / f"{names[2]}.mp4", Film([0.0, 1.0], last_s=1.0, sound=sound, sound_rate=16000)
    )  # two frames are enough
    assert cli.main(["eval", "faults.yaml", "--out", "eval", "media.on_error=skip"]) == 0
    (found,) = (place / "eval").rglob("scores.json")
    skipped = json.loads(found.read_text())["skipped"]
    assert {question.split("/")[0]: why.split(": ", 1)[1].split(";")[0] for question, why in skipped.items()} == {
        names[0]: "no audio track",
        names[1]: "one frame is no video",
    }
