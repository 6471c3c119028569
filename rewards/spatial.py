"""Spatial reward (Eq. 5-6 for several objects): the boxes over all annotated seconds, not over the predicted ones."""

from avst.explain import Reasons, say_nothing
from avst.match import match_answers, spatial_overlaps
from avst.types import Answer, Task
from avst.word_vectors import WordVectors


def spatial_iou(
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
    """Sum of track IoUs / (gold objects with a visible time + predicted objects matched to no gold one).

    None for temporal questions and where no gold object has a visible time.
    """
    rewards: list[float | None] = []
    for i, (kind, predicted, wanted) in enumerate(zip(task, answer, gold, strict=True)):
        matches = () if kind == "temporal" else match_answers(predicted, wanted, word_vectors)
        overlaps = {} if kind == "temporal" else spatial_overlaps(predicted, wanted, matches)
        if not overlaps:
            rewards.append(None)
            continue
        surplus = len(predicted.objects) - len(matches)
        rewards.append(sum(overlaps.values()) / (len(overlaps) + surplus))
        each = " + ".join(f"{wanted.objects[j].name!r} {iou:.2f}" for j, iou in overlaps.items())
        reasons(i, f"mean box IoU {each}; over {len(overlaps)} gold + {surplus} predicted that match none")
    return rewards
