"""avst validate: each kind of defect is found once, where it is, and nothing else is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from avst.cli import main
from avst.errors import AvstError
from avst.validate import KINDS, Defect, inspect_data, validate

SMALL = Path(__file__).parent / "golden" / "r_avst_small.json"
STREET_ST = "street/1/st/0"
GULL = "harbour/0/temporal/1"
# What the small file has by design: a question with zero boxes only, one object of which has no entry at all.
BY_DESIGN = [("empty_where", "harbour/0/spatial/0", "A"), ("no_visible_box", "harbour/0/spatial/0", "A")]


def small() -> Any:
    return json.loads(SMALL.read_text(encoding="utf-8"))


def write(path: Path, data: Any) -> Path:
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def found(defects: list[Defect]) -> list[tuple[str, str, str]]:
    return [(d.kind, d.question, d.field) for d in defects]


def make_video(path: Path, seconds: float, size: tuple[int, int] = (200, 100), audio: bool = True) -> None:
    """A grey clip at 5 frames a second, with a quiet tone."""
    with av.open(str(path), "w") as container:
        picture = container.add_stream("libx264", rate=5)
        picture.width, picture.height, picture.pix_fmt = *size, "yuv420p"
        sound = container.add_stream("aac", rate=16000, layout="mono") if audio else None
        for i in range(round(seconds * 5)):
            frame = av.VideoFrame.from_ndarray(np.full((size[1], size[0], 3), 40 + i, np.uint8), format="rgb24")
            container.mux(picture.encode(frame))
        container.mux(picture.encode(None))
        if sound is not None:
            wave = (0.1 * np.sin(np.arange(round(seconds * 16000)) / 8)).astype(np.float32)
            audio_frame = av.AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
            audio_frame.sample_rate = 16000
            container.mux(sound.encode(audio_frame))
            container.mux(sound.encode(None))


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    make_video(folder / "street.mp4", 20.0)
    make_video(folder / "harbour.mp4", 8.0)
    return folder


# ---- annotations ----------------------------------------------------------------------------------------------------


def test_the_small_file_has_its_two_warnings_and_no_error() -> None:
    defects = validate([SMALL])
    assert found(defects) == BY_DESIGN
    assert {d.severity for d in defects} == {"warning"}
    assert str(defects[0]) == (
        f'warning: {SMALL}: harbour/0/spatial/0: field "A": empty_where: "A buoy" has no box entry'
    )


def _temporal(data: Any) -> Any:
    return data[1]["annotation"][0]["AV Temporal Reasoning"]


def _answer(when: str) -> str:
    return f"<answer>\n<object>A gull</object>\n<when>{when}</when>\n</answer>"


def _box(data: Any, box: str) -> None:
    item = data[0]["annotation"][1]["AV ST Reasoning"][0]
    item["A"] = item["A"].replace("11.0: [10.0, 10.0, 50.0, 90.0]", f"11.0: {box}")


CHANGES: list[tuple[Callable[[Any], object], tuple[str, str, str]]] = [
    (lambda d: d[0].pop("duration"), ("wrong_type", "street", "duration")),
    (lambda d: d[0]["annotation"].append("x"), ("wrong_type", "street/2", "annotation")),
    (lambda d: d[0]["annotation"][0].update({"AV Temporal": []}), ("unknown_field", "street/0", "AV Temporal")),
    (lambda d: d[0]["annotation"][0].update({"temporal": []}), ("unknown_field", "street/0", "temporal")),
    (
        lambda d: d[0]["annotation"][0].update({"Spatio-temporal": None}),
        ("unknown_field", "street/0", "Spatio-temporal"),
    ),
    (lambda d: d[0]["annotation"][0].update(sounds=[{"Q": "?"}]), ("unknown_field", "street/0", "sounds")),
    (lambda d: d[0].update(video_name="../street"), ("unsafe_name", "entry 0", "video_name")),
    (lambda d: d.append(d[0]), ("duplicate_video", "street", "video_name")),
    (lambda d: _temporal(d)[1].update(Q=""), ("no_text", GULL, "Q")),
    (lambda d: _temporal(d)[1].update(A="<answer><object>x"), ("bad_gold", GULL, "A")),
    (lambda d: _temporal(d)[1].update(A=_answer("[3.0, 3.0]")), ("bad_interval", GULL, "A")),
    (lambda d: _temporal(d)[1].update(A=_answer("[3.0, 30.0]")), ("past_the_end", GULL, "A")),
    (lambda d: _temporal(d)[1].update(A=_answer("[3.0, 8.4]")), ("just_past_the_end", GULL, "A")),
    (lambda d: _temporal(d)[1].update(Q=_temporal(d)[0]["Q"]), ("repeated_question", GULL, "Q")),
    (lambda d: d.append({"video_name": "e", "duration": 1, "annotation": []}), ("no_questions", "e", "annotation")),
    (lambda d: _box(d, "[-4.0, 10.0, 50.0, 90.0]"), ("box_outside_frame", STREET_ST, "A")),
    (lambda d: _box(d, "[50.0, 10.0, 10.0, 90.0]"), ("bad_gold", STREET_ST, "A")),
]


@pytest.mark.parametrize(("change", "expected"), CHANGES, ids=[f"{c[1][0]}-{c[1][1]}" for c in CHANGES])
def test_each_defect_is_found_once_and_where_it_is(
    tmp_path: Path, change: Callable[[Any], object], expected: tuple[str, str, str]
) -> None:
    data = small()
    change(data)
    defects = validate([write(tmp_path / "bad.json", data)])
    assert sorted(found(defects)) == sorted([expected, *BY_DESIGN])
    assert all("\n" not in str(d) for d in defects)


def test_all_defects_of_a_file_are_reported_not_the_first_alone(tmp_path: Path) -> None:
    data = small()
    _temporal(data)[0]["A"] = None
    _temporal(data)[1]["Q"] = 7
    data[0]["duration"] = -1
    findings = inspect_data([write(tmp_path / "bad.json", data)])
    assert findings.counts == {"wrong_type": 2, "no_text": 1, "empty_where": 1, "no_visible_box": 1}
    assert (findings.count("error"), findings.count("warning")) == (3, 2)
    assert (findings.n_videos, findings.n_questions) == (1, 1)


@pytest.mark.parametrize(
    ("content", "says"), [("[{]", "line 1, column 3"), ("{}", "list of videos"), ("[]", "no quest")]
)
def test_a_file_that_gives_nothing(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "broken.json"
    path.write_text(content)
    (defect,) = validate([path])
    assert says in defect.message
    assert defect.severity == ("warning" if content == "[]" else "error")
    assert str(path) not in defect.message


def test_overlap_between_files_and_against_another(tmp_path: Path) -> None:
    train, test = write(tmp_path / "train.json", small()), write(tmp_path / "test.json", small()[1:])
    apart = [d for d in validate([train, test]) if d.kind == "overlap"]
    assert [(d.file, d.question, d.severity) for d in apart] == [(str(test), "harbour", "error")]
    against = [d for d in validate([train], against=[test]) if d.kind == "overlap"]
    assert [(d.file, d.question) for d in against] == [(str(train), "harbour")]
    assert str(test) in against[0].message
    assert not [d for d in validate([write(tmp_path / "one.json", small()[:1])], against=[test]) if d.kind == "overlap"]


def test_the_real_annotations_have_no_error(shared_data: Path) -> None:
    findings = inspect_data([shared_data / "r_avst_dev_QA.json"])
    assert findings.count("error") == 0
    assert findings.n_questions == 777
    assert [d.question for d in findings.defects if d.kind == "no_visible_box"] == ["8hSEus9jvHc/0/spatial/0"]
    text = (shared_data / "r_avst_dev_QA.json").read_text(encoding="utf-8")
    assert findings.counts["empty_where"] == text.count(r"<where>\n</where>")


# ---- videos ---------------------------------------------------------------------------------------------------------


def test_good_videos_add_no_defect(videos: Path) -> None:
    findings = inspect_data([SMALL], videos)
    assert found(findings.defects) == BY_DESIGN
    assert findings.n_probed == 2


def test_missing_broken_short_and_silent_videos(tmp_path: Path) -> None:
    data = small()
    names = ("missing", "broken", "short", "silent", "still")
    entries = [dict(data[1], video_name=name) for name in names]
    path = write(tmp_path / "five.json", entries)
    (tmp_path / "broken.mp4").write_bytes(b"not a video" * 100)
    make_video(tmp_path / "short.mp4", 5.0)
    make_video(tmp_path / "silent.mp4", 8.0, audio=False)
    make_video(tmp_path / "still.mp4", 0.2, audio=False)
    defects = [d for d in validate([path], tmp_path) if d.field != "A"]
    assert sorted(found(defects)) == [
        ("duration_differs", "short", "duration"),
        ("duration_differs", "still", "duration"),
        ("missing_video", "missing", "video_name"),
        ("no_audio", "silent", "video_name"),
        ("no_audio", "still", "video_name"),
        ("one_frame", "still", "video_name"),
        ("unreadable_video", "broken", "video_name"),
    ]
    assert {d.kind for d in defects if d.severity == "error"} == {"missing_video", "one_frame", "unreadable_video"}
    assert all("\n" not in str(d) for d in defects)


def test_a_link_out_of_the_folder_is_not_opened(tmp_path: Path, videos: Path) -> None:
    (tmp_path / "street.mp4").symlink_to(videos / "street.mp4")
    (tmp_path / "harbour.mp4").symlink_to(tmp_path / "nowhere")
    assert [d.kind for d in validate([SMALL], tmp_path) if d.field == "video_name"] == ["missing_video"] * 2


def test_a_box_outside_the_real_frame(tmp_path: Path) -> None:
    """Boxes reach x2 = 200; the frame is 160 wide. Two boxes of the dog's reach out, the pot's and the men's do not."""
    make_video(tmp_path / "street.mp4", 20.0, size=(160, 100))
    make_video(tmp_path / "harbour.mp4", 8.0)
    outside = [d for d in validate([SMALL], tmp_path) if d.kind == "box_outside_frame"]
    assert found(outside) == [("box_outside_frame", "street/0/spatial/0", "A")]
    assert outside[0].message == '"A dog" at 6 s: [100, 0, 200, 100] reaches out of the frame (160x100)'


def test_a_video_of_two_files_is_opened_once(tmp_path: Path, videos: Path) -> None:
    both = [write(tmp_path / "a.json", small()), write(tmp_path / "b.json", small())]
    assert inspect_data(both, videos).n_probed == 2


def test_videos_must_be_a_folder(tmp_path: Path) -> None:
    with pytest.raises(AvstError, match=r"nowhere: is no folder of videos"):
        validate([SMALL], tmp_path / "nowhere")


# ---- the command ----------------------------------------------------------------------------------------------------


def test_command_prints_every_defect_and_the_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = small()
    _temporal(data)[1]["A"] = _answer("[3.0, 30.0]")
    path = write(tmp_path / "bad.json", data)
    assert main(["validate", str(path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith(("error:", "warning:")) for line in lines) == 3
    counted = {line.split()[2]: int(line.split()[0]) for line in lines if line.split()[1:2] in (["error"], ["warning"])}
    assert counted == {"past_the_end": 1, "empty_where": 1, "no_visible_box": 1}
    assert lines[-1] == "1 file, 2 videos, 5 usable questions, videos not opened: 1 errors, 2 warnings"
    assert main(["validate", str(SMALL)]) == 0


def test_command_takes_a_folder_with_its_videos(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "videos").mkdir()
    make_video(tmp_path / "videos" / "street.mp4", 20.0)
    write(tmp_path / "annotations_train.json", small()[:1])
    write(tmp_path / "annotations_eval.json", small()[:1])
    assert main(["validate", str(tmp_path), "--json"]) == 1
    printed = json.loads(capsys.readouterr().out)
    assert [Path(f).name for f in printed["files"]] == ["annotations_eval.json", "annotations_train.json"]
    assert printed["counts"] == {"overlap": 1}
    assert (printed["videos_opened"], printed["errors"], printed["questions"]) == (1, 1, 6)
    assert printed["defects"][0]["kind"] == "overlap"


def test_command_says_what_is_wrong_with_its_arguments(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", str(tmp_path)]) == 1
    assert "holds no annotations*.json" in capsys.readouterr().err
    write(tmp_path / "annotations_a.json", small())
    assert main(["validate", str(tmp_path)]) == 1
    assert "videos: is no folder of videos" in capsys.readouterr().err


def test_every_kind_has_a_meaning_and_a_severity() -> None:
    assert {severity for severity, _ in KINDS.values()} == {"error", "warning"}
    assert all(meaning and "\n" not in meaning for _, meaning in KINDS.values())
