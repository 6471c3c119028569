"""Object reward (Eq. 2-3 for several names): are the right things named, and only they?"""

from avst.explain import Reasons, explain_matches, say_nothing
from avst.match import match_answers
from avst.types import Answer, Task
from avst.word_vectors import WordVectors


def object_reward(
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
    """2·pairs / (predicted + gold names), paired one to one from similarity tau on; None for temporal questions."""
    rewards: list[float | None] = []
    for i, (kind, predicted, wanted) in enumerate(zip(task, answer, gold, strict=True)):
        if kind == "temporal" or not wanted.objects:
            rewards.append(None)
            continue
        matches = match_answers(predicted, wanted, word_vectors)
        rewards.append(2 * len(matches) / (len(predicted.objects) + len(wanted.objects)))
        why = explain_matches(predicted, wanted, matches, word_vectors.tau)
        reasons(i, f"{why}; 2·{len(matches)} of {len(predicted.objects)}+{len(wanted.objects)}")
    return rewards
