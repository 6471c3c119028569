"""Temporal reward (Eq. 4): IoU of the predicted and the annotated intervals."""

from avst.explain import Reasons, explain_intervals, say_nothing
from avst.match import match_answers, temporal_overlap
from avst.types import Answer, Task
from avst.word_vectors import WordVectors


def temporal_iou(
    prompts: list,
    completions: list,
    completion_ids: list,
    *,
    task: list[Task],
    answer: list[Answer],
    gold: list[Answer],
    word_vectors: WordVectors,
    reasons: Reasons = say_nothing,
    **columns: object,
) -> list[float | None]:
    """IoU of interval unions, mean over gold objects; None for spatial questions and where no interval is annotated."""
    rewards: list[float | None] = []
    for i, (kind, predicted, wanted) in enumerate(zip(task, answer, gold, strict=True)):
        if kind == "spatial":
            rewards.append(None)
            continue
        matches = match_answers(predicted, wanted, word_vectors)
        rewards.append(temporal_overlap(predicted, wanted, matches))
        reasons(i, explain_intervals(predicted, wanted, matches))
    return rewards
