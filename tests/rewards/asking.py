"""Calls a reward as TRL does, about one completion."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from avst.answer import parse, parse_gold
from avst.types import Question, Task
from avst.word_vectors import WordVectors

EXACT = WordVectors()


def question(gold: str, task: Task, duration_s: float = 20.0) -> Question:
    return Question(f"v/0/{task}/0", task, "?", "v", duration_s, parse_gold(f"<answer>{gold}</answer>"), gold)


def ask(
    reward: Callable[..., list[float | None]],
    said: str,
    gold: str,
    task: Task,
    words: WordVectors = EXACT,
    **columns: Any,
) -> float | None:
    """The reward of <answer>said</answer> where <answer>gold</answer> is right."""
    asked = question(gold, task)
    text = f"<answer>{said}</answer>"
    values = reward(
        prompts=["?"],
        completions=[[{"role": "assistant", "content": text}]],
        completion_ids=[[1]],
        task=[task],
        question=[asked],
        answer=[parse(text, asked.gold_names)],
        gold=[asked.gold],
        duration=[asked.duration_s],
        word_vectors=words,
        **columns,
    )
    assert len(values) == 1
    return values[0]
