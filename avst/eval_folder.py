"""What an evaluation leaves on disk while it runs, so that it can be killed and taken up again:

    eval.json              which model, questions and settings these answers belong to
    predictions_<r>.jsonl  one line a question, written by process r as soon as it is answered

A line: {"id", "completion", "answer", "space", "tokens", "truncated"}; `completion` is the model's own text, boxes in
its own space, `answer` what was read in it, in pixels of the source. A question whose clip could not be read has
{"id", "skipped": why}.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avst.config import Recipe, recipe_values
from avst.durable import append_line, json_safe, read_lines, write_atomically
from avst.errors import AvstError
from avst.provenance import versions
from avst.run_folder import differences
from avst.types import Question, Space

MEDIA_SEEN = ("fps", "max_frames", "min_pixels", "max_pixels", "total_pixels", "audio", "decoder")
RESULTS = ("scores.json", "table.txt", "table.json", "table.csv")


@dataclass(frozen=True, slots=True)
class SavedAnswer:
    """One line. completion, space: None where the question was skipped, and then `skipped` says why.

    Example: SavedAnswer("abc/0/temporal/0", "<answer>…</answer>", Space((1280, 720), (644, 364)))
    """

    id: str
    completion: str | None = None
    space: Space | None = None
    truncated: bool = False
    skipped: str | None = None


class EvalFolder:
    """The folder of one model's answers to one split; all processes of a run see the same one."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @classmethod
    def open(cls, path: str | Path, identity: Mapping[str, Any], overwrite: bool = False) -> EvalFolder:
        """Make the folder or take it up again. Answers of another model, recipe or split are refused with an AvstError
        that names the difference, or deleted where `overwrite` says so. On the main process only."""
        folder = cls(path)
        try:
            folder.path.mkdir(parents=True, exist_ok=True)
            if overwrite:
                for old in (*folder._files(), *(folder.path / name for name in RESULTS)):
                    old.unlink(missing_ok=True)
            elif any(folder.read()):
                folder._refuse_another(identity)
            record = {"identity": identity, "versions": versions()}
            write_atomically(folder.path / "eval.json", json.dumps(json_safe(record), indent=1) + "\n")
        except OSError as error:
            raise AvstError(f"{folder.path}: the evaluation cannot be written there: {error}") from error
        return folder

    def append(self, process: int, row: Mapping[str, Any]) -> None:
        append_line(self.path / f"predictions_{process}.jsonl", row)

    def read(self) -> dict[str, SavedAnswer]:
        """id -> what is known so far, of however many processes; half-written lines are passed over. An answer counts
        more than an earlier skip of the same question."""
        found: dict[str, SavedAnswer] = {}
        for path in self._files():
            for row in read_lines(path):
                answer = _saved(row)
                if answer is not None and (answer.skipped is None or answer.id not in found):
                    found[answer.id] = answer
        return found

    def _files(self) -> list[Path]:
        return sorted(self.path.glob("predictions_*.jsonl"))

    def _refuse_another(self, identity: Mapping[str, Any]) -> None:
        file = self.path / "eval.json"
        try:
            earlier = json.loads(file.read_text(encoding="utf-8"))["identity"]
            same_weights = earlier["checkpoint"]["digest"] == identity["checkpoint"]["digest"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise AvstError(
                f"{file}: cannot be read ({error}), so nobody knows whose answers these are; choose another folder "
                "(--out), or delete them with --overwrite"
            ) from error
        if same_weights:
            earlier["checkpoint"] = dict(identity["checkpoint"])  # the same files in another place
        if found := differences(earlier, json_safe(identity)):
            raise AvstError(
                f"{self.path}: holds answers of another evaluation: {'; '.join(found)}; choose another folder (--out), "
                "or delete them with --overwrite"
            )


def identity(
    recipe: Recipe, checkpoint: str | Path, digest: str, split: str, questions: Sequence[Question]
) -> dict[str, Any]:
    """All that an answer depends on. How many prompts are decoded together is not among it: whoever ran out of memory
    goes on with fewer; nor are rewards and word vectors, which only judge the answers."""
    values = recipe_values(recipe)
    lora = recipe.model.lora
    return {
        "checkpoint": {"path": str(checkpoint), "digest": digest},
        "model": {
            "dtype": recipe.model.dtype,
            "attention": recipe.model.attention,
            "quantize_4bit": lora is not None and lora.quantize_4bit,
        },
        "split": split,
        "questions": {"number": len(questions), "digest": _digest(f"{q.id}\0{q.video}\0{q.text}\0" for q in questions)},
        "data": {"videos": str(Path(recipe.data.videos or ".").resolve())},
        "media": {name: values["media"][name] for name in MEDIA_SEEN},
        "prompt": values["prompt"],
        "eval": {"max_new_tokens": recipe.eval.max_new_tokens},
    }


def _digest(texts: Iterable[str]) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for text in texts:
        digest.update(text.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _saved(row: Mapping[str, Any]) -> SavedAnswer | None:
    """None for a line that is not whole: its question is answered again."""
    question_id, completion, space = row.get("id"), row.get("completion"), row.get("space")
    if not isinstance(question_id, str):
        return None
    if isinstance(skipped := row.get("skipped"), str):
        return SavedAnswer(question_id, skipped=skipped)
    if not isinstance(completion, str) or not isinstance(space, dict):
        return None
    try:
        (width, height), (model_width, model_height) = space["source"], space["model"]
        sizes = Space((int(width), int(height)), (int(model_width), int(model_height)))
    except (KeyError, TypeError, ValueError):
        return None
    return SavedAnswer(question_id, completion, sizes, truncated=bool(row.get("truncated")))
