"""Does the policy listen? Its answers to the held-out questions with the sound as it is, muted and swapped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from avst.ablation.plan import FULL, Plan
from avst.config import load_recipe
from avst.eval_folder import EvalFolder
from avst.evaluate import evaluate, results_of, split_questions
from avst.metrics import QuestionResult
from avst.scenes.settings import make_settings
from avst.types import Question
from avst.word_vectors import WordVectors
from scripts.learning_table.other_sound import write_clips
from scripts.learning_table.plan import SCENE_SEED

KINDS = ("as it is", "muted", "swapped")


def hearing(plan: Plan) -> list[list[str]]:
    """A line a kind of sound: names of sounding and of silent things, and times; percent, mean over the seeds."""
    questions = split_questions(plan.recipe, "eval")
    words = WordVectors.load(plan.recipe.word_vectors.path, plan.recipe.word_vectors.tau)
    names = list(dict.fromkeys(question.video for question in questions))
    lines = [["GRPO, its clips' sound", "names of sounding things", "names of silent things", "m_tIoU"]]
    for kind in KINDS:
        figures = []
        for cell in (cell for cell in plan.cells if cell.variant.name == FULL):
            out = cell.folder / "eval" / "eval" / "final"
            if kind != "as it is":
                videos = write_clips(plan.out / "sound" / kind, make_settings("quickstart"), SCENE_SEED, names, kind)
                recipe = load_recipe(plan.recipe_file, [*plan.overrides, f"data.videos={videos}"])
                out = plan.out / "sound" / f"{kind}_seed_{cell.seed}"
                evaluate(recipe, str(cell.folder / "final"), out, kind)
            figures.append(_figures(questions, results_of(questions, EvalFolder(out).read(), words)))
        lines.append([kind, *(_mean(column) for column in zip(*figures, strict=True))])
    return lines


def _figures(questions: list[Question], results: list[QuestionResult]) -> list[float | None]:
    """Percent: names of sounding things, of silent things, times; None where no question asks for them."""
    asked: Mapping[str, Question] = {question.id: question for question in questions}
    groups: tuple[list[float], list[float], list[float]] = ([], [], [])
    for result in results:
        if result.task == "spatial":
            silent = "silent" in asked[result.id].text
            groups[silent].append(result.object_accuracy or 0.0)
        else:
            groups[2].append(result.tiou or 0.0)
    return [100 * sum(group) / len(group) if group else None for group in groups]


def _mean(column: Sequence[float | None]) -> str:
    """Over the seeds, which answer the same questions."""
    known = [value for value in column if value is not None]
    return f"{sum(known) / len(known):.1f}" if known else "–"
