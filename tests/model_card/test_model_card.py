"""Model cards: what they say, that the Hub's own reader understands them, that nothing in them acts or leaks."""

from __future__ import annotations

import html
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import ModelCard

from avst import tables
from avst.checkpoint_digest import checkpoint_digest
from avst.config import Recipe, load_recipe
from avst.metrics import measure
from avst.model_card.facts import Facts
from avst.model_card.markdown import block, code, words
from avst.model_card.writer import CardWriter, add_evaluation
from avst.run_folder import RunFolder
from avst.tasks.r_avst import load_annotations
from avst.types import Answer
from avst.word_vectors import WordVectors

SMALL = Path(__file__).resolve().parents[1] / "golden" / "r_avst_small.json"
HOSTILE = "a|b `c` <script>alert(1)</script> [x](javascript:1) **bold** https://evil.example\n# head"


def recipe_in(folder: Path, more: str = "") -> Recipe:
    (folder / "r.yaml").write_text(
        f"name: try\nseed: 3\nmodel: {{path: {folder / 'base'}}}\n"
        f"data: {{train: {SMALL}, eval: {SMALL}, videos: v}}\ngrpo: {{hub_token: hf_verysecretvalue}}\n{more}"
    )
    (folder / "base").mkdir(exist_ok=True)
    (folder / "base" / "config.json").write_text("{}")
    return load_recipe(folder / "r.yaml", output_dir=str(folder / "run"))


def written(folder: Path, more: str = "", checkpoint: str | None = None) -> Path:
    """A run with a checkpoint at step 2 and its card."""
    recipe = recipe_in(folder, more)
    run = RunFolder.open(
        recipe, "train", argv=["avst", "train", "r.yaml", "grpo.hub_token=hf_verysecretvalue", HOSTILE]
    )
    run.log({"step": 1, "loss": 0.5, "reward": 0.25, "rewards/temporal/mean": 0.125})
    run.log({"step": 2, "loss": 0.4, "reward": 0.75, "rewards/temporal/mean": 0.625})
    run.log({"step": 3, "loss": 0.3, "reward": 0.95})
    weights = run.path / "checkpoint-2"
    weights.mkdir()
    (weights / "config.json").write_text("{}")
    (weights / "model.safetensors").write_text("weights")
    state: Any = SimpleNamespace(is_world_process_zero=True, global_step=2)
    CardWriter(recipe, "train", checkpoint, run).on_save(None, state, None)  # type: ignore[arg-type]
    return weights


def comparison(right: bool) -> tables.Comparison:
    questions, vectors = load_annotations(SMALL), WordVectors()
    results = [measure(q, q.gold if right else Answer(), vectors) for q in questions]
    frames = {q.video: (640.0, 360.0) for q in questions}
    return tables.compare({"m": results}, tables.trivial_results(questions, vectors, frames), ["a *note*"])


def test_a_card_says_what_the_weights_were_made_of(tmp_path: Path) -> None:
    card = ModelCard.load(written(tmp_path) / "README.md")
    assert card.data.license == "unknown"
    assert card.data.library_name == "transformers"
    assert card.data.base_model is None  # a folder is no name on the Hub
    assert {"avst", "grpo"} <= set(card.data.tags)
    text = card.text
    assert f"`{tmp_path / 'base'}`, digest `{checkpoint_digest(tmp_path / 'base')}`" in text
    assert "6 questions: 2 spatial, 1 st, 3 temporal." in text
    assert "| temporal | `rewards.temporal:temporal_iou` | 1.0 | – | 0.5 |" in text
    assert "| optimizer steps | 2 |" in text
    assert "| `reward` | 0.75 |" in text  # of step 2, not of step 3
    assert "| `rewards/temporal/mean` | 0.625 |" in text
    assert "No evaluation of these weights is recorded here." in text
    assert "## Not tested" in text


def test_the_base_is_named_to_the_hub_where_the_hub_knows_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("avst.model_card.facts.checkpoint_digest", lambda name, revision=None: "abc123")
    weights = written(tmp_path, "license: apache-2.0\n", checkpoint="Qwen/Qwen2.5-Omni-7B")
    card = ModelCard.load(weights / "README.md")
    assert (card.data.base_model, card.data.license) == ("Qwen/Qwen2.5-Omni-7B", "apache-2.0")
    assert "digest `abc123`" in card.text


def test_credentials_and_markup_stay_out(tmp_path: Path) -> None:
    text = (written(tmp_path) / "README.md").read_text()
    assert "hf_verysecretvalue" not in text
    assert "(not saved)" in text
    before, _, rest = text.partition("```bash\n")  # the command line stands in a block, where nothing acts
    inside, _, after = rest.partition("\n```")
    assert "<script>" in inside
    assert "<script>" not in before + after


@pytest.mark.parametrize(
    "text", [HOSTILE, "1. list", "- list", "+ list", "www.evil.example", "me@evil.example", "a\u202eb"]
)
def test_escaped_text_reads_the_same_and_does_nothing(text: str) -> None:
    shown = words(text)
    assert html.unescape(shown) == " ".join(text.split()).replace("\u202e", "")
    assert not set("`*<>[]|\n") & set(shown)
    assert not shown.startswith(("-", "+", "1."))
    assert "www." not in shown
    assert "://" not in shown


def test_code_and_blocks_cannot_be_left() -> None:
    assert code("a_b/c") == "`a_b/c`"
    assert "`" not in code("a`b")
    assert "|" not in code("a|b")
    assert block("```\nout?\n````").startswith("`````\n")


def test_an_evaluation_is_added_and_replaced_and_no_digest_changes(tmp_path: Path) -> None:
    weights, recipe = written(tmp_path), recipe_in(tmp_path)
    bare = weights / "README.md"
    digest = checkpoint_digest(weights)
    add_evaluation(weights, comparison(right=False), recipe, "eval")
    add_evaluation(weights, comparison(right=True), recipe, "eval")
    add_evaluation(weights, comparison(right=True), recipe, "train")
    assert checkpoint_digest(weights) == digest
    card = ModelCard.load(bare)
    assert "No evaluation of these weights" not in card.text
    assert card.text.count("### Split eval") == 1
    assert card.text.count("### Split train") == 1
    assert "| m_tIoU | 100.00 | 100.0 to 100.0 |" in card.text
    assert "a &#42;note&#42;" in card.text
    results = [r for r in card.data.eval_results if r.dataset_split == "eval"]
    assert {r.metric_value for r in results if r.metric_type == "m_tIoU"} == {100.0}
    assert len(results) == len({(r.task_name, r.metric_type) for r in results}) == 4 + 5 + 7
    assert card.data.model_name == "try"


def test_what_was_edited_stays(tmp_path: Path) -> None:
    weights, recipe = written(tmp_path), recipe_in(tmp_path)
    file = weights / "README.md"
    file.write_text(
        file.read_text().replace("license: unknown", "license: mit").replace("# try\n", "# Mine\n\nMy words.\n")
    )
    add_evaluation(weights, comparison(right=True), recipe, "eval")
    card = ModelCard.load(file)
    assert card.data.license == "mit"
    assert "My words." in card.text


def test_cards_of_others_and_folders_outside_runs_are_left_alone(tmp_path: Path) -> None:
    weights, recipe = written(tmp_path), recipe_in(tmp_path)
    (weights / "README.md").write_text("# theirs\n")
    add_evaluation(weights, comparison(right=True), recipe, "eval")
    assert (weights / "README.md").read_text() == "# theirs\n"
    add_evaluation(tmp_path / "base", comparison(right=True), recipe, "eval")
    add_evaluation("Qwen/nowhere", comparison(right=True), recipe, "eval")
    assert not (tmp_path / "base" / "README.md").exists()


def test_a_card_that_cannot_be_written_ends_no_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    recipe = recipe_in(tmp_path)
    run = RunFolder.open(recipe, "train", argv=["avst"])
    (run.path / "final" / "README.md").mkdir(parents=True)
    CardWriter(recipe, "train", None, run).write(run.path / "final", 1)
    assert "the model card cannot be written" in caplog.text
    assert json.loads((run.path / "run.json").read_text())["command"] == "train"


def test_a_card_that_cannot_be_made_ends_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise TypeError("no card today")

    writer = CardWriter.__new__(CardWriter)
    writer.folder, writer.facts = RunFolder(tmp_path), Facts("train", "a/b", "", {}, {}, {})
    monkeypatch.setattr("avst.model_card.render.metadata", broken)
    writer.write(tmp_path, 1)
    assert "no card today" in caplog.text
    assert not (tmp_path / "README.md").exists()
