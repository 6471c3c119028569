"""Format reward: the answer is the grammar's, whole, and says where for the tasks that ask where."""

from avst.answer import TAGS_OF_TASK, has_visible_box
from avst.explain import Reasons, say_nothing
from avst.types import Answer, Task


def format_reward(
    prompts: list,
    completions: list,
    completion_ids: list,
    *,
    task: list[Task],
    answer: list[Answer],
    reasons: Reasons = say_nothing,
    **columns: object,
) -> list[float | None]:
    """1 if nothing had to be dropped, the task's tag pairs are there and (spatial, st) some box is visible; else 0."""
    rewards: list[float | None] = []
    for i, (kind, predicted) in enumerate(zip(task, answer, strict=True)):
        faults = [f"{reason} x{count}" for reason, count in predicted.problems.items()]
        faults += [f"no <{tag}>…</{tag}>" for tag in TAGS_OF_TASK[kind] if tag not in predicted.tags]
        if kind != "temporal" and not has_visible_box(predicted):
            faults.append("no box that is not four zeros")
        reasons(i, ", ".join(faults) or "nothing to object to")
        rewards.append(0.0 if faults else 1.0)
    return rewards
