"""Skill variants, off by default: what an answer has over the trivial one (whole clip, whole frame).

(r - r0) / (1 - r0), floored at 0, r0 the reward of the trivial answer, so that a policy cannot rest on it. Where the
trivial answer is the right one (r0 = 1) there is nothing to have over it: being right is 1, all else 0.
"""

from collections.abc import Callable
from typing import Any

from avst.explain import Reasons, say_nothing
from avst.trivial import annotated_extent, whole_clip, whole_frame
from avst.types import Answer, Question
from rewards.spatial import spatial_iou
from rewards.temporal import temporal_iou


def temporal_skill(
    prompts: list,
    completions: list,
    completion_ids: list,
    *,
    question: list[Question],
    reasons: Reasons = say_nothing,
    **columns: Any,
) -> list[float | None]:
    """temporal_iou over that of the whole clip as the interval."""
    return _skill(temporal_iou, [whole_clip(q) for q in question], "whole clip", reasons, columns)


def spatial_skill(
    prompts: list,
    completions: list,
    completion_ids: list,
    *,
    question: list[Question],
    frame_size: list | None = None,
    reasons: Reasons = say_nothing,
    **columns: Any,
) -> list[float | None]:
    """spatial_iou over that of the whole frame with the right names and times.

    frame_size: one (width, height) in source pixels a completion; else the extent of the question's own gold boxes
    stands in.
    """
    sizes = frame_size or [annotated_extent([q]).get(q.video, (1.0, 1.0)) for q in question]
    trivial = [whole_frame(q, size) for q, size in zip(question, sizes, strict=True)]
    return _skill(spatial_iou, trivial, "whole frame", reasons, columns)


def _skill(
    reward: Callable[..., list[float | None]],
    trivial: list[Answer],
    name: str,
    reasons: Reasons,
    columns: dict[str, Any],
) -> list[float | None]:
    skills: list[float | None] = []
    earned = reward([], [], [], **columns)
    baseline = reward([], [], [], **{**columns, "answer": trivial})
    for i, (r, r0) in enumerate(zip(earned, baseline, strict=True)):
        if r is None or r0 is None:
            skills.append(None)
            continue
        skills.append(float(r >= 1 - 1e-9) if r0 >= 1 - 1e-9 else max(0.0, (r - r0) / (1 - r0)))
        reasons(i, f"{r:.3f} where the {name} has {r0:.3f}")
    return skills
