"""Supervised steps: the loss of a clip's questions in one packed row is the mean cross entropy of their gold tokens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import TrainingArguments

from avst.data import Skipped
from avst.models.loading import freeze_towers
from avst.sft import SFTTrainer
from avst.types import Answer, AnswerObject, Interval, Prompt, Question, Track
from tests.tiny_world import load_grouped, load_plain, make_builder, make_clip, plain_logps

KINDS = ("qwen2_5_vl", "qwen2_5_omni")
DOG = AnswerObject("dog", (Interval(1.0, 3.0),), Track((1.0,), ((10.0, 20.0, 110.0, 90.0),)))
MAN = AnswerObject("A man", (Interval(0.5, 1.5), Interval(2.0, 4.0)), Track((2.0,), ((0.0, 0.0, 50.0, 50.0),)))


def question(clip: int, number: int, text: str, *objects: AnswerObject) -> Question:
    task = ("temporal", "spatial", "st")[number % 3]
    gold = Answer(objects, tags=frozenset({"object", "when", "where"}))
    return Question(f"clip{clip}/0/{task}/{number}", task, text, f"clip{clip}", 4.0, gold, "")


QUESTIONS = [
    [
        question(0, 0, "When does the dog sound?", DOG),
        question(0, 1, "When does the dog show?", DOG),
        question(0, 2, "Where?", MAN, DOG),
    ],
    [question(1, 3, "When is the man heard?", MAN)],
    [question(2, 4, "Where is he?", MAN), question(2, 5, "Who?", DOG, MAN)],
    [question(3, 6, "Who barks?", DOG)],
]


def rows_of(folder: Path) -> list[list[Prompt]]:
    """One row a clip; the third clip has no sound."""
    builder = make_builder(folder)
    return [
        builder.build_all(questions, make_clip(2.0 + i, sound=i != 2, seed=i)) for i, questions in enumerate(QUESTIONS)
    ]


def make_trainer(
    folder: Path, out: Path, rows: Sequence[Any], size: int, accumulation: int, model: Any = None, **options: Any
) -> SFTTrainer:
    model = load_grouped(folder) if model is None else model
    defaults: dict[str, Any] = {
        "output_dir": str(out),
        "report_to": "none",
        "use_cpu": True,
        "per_device_train_batch_size": size,
        "gradient_accumulation_steps": accumulation,
        "remove_unused_columns": False,
        "optim": "sgd",
        "learning_rate": 0.1,
        "lr_scheduler_type": "constant",
        "max_grad_norm": 1e9,
        "max_steps": 2,
        "save_strategy": "no",
        "logging_steps": 1,
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }
    return SFTTrainer(model, TrainingArguments(**(defaults | options)), list(rows), make_builder(folder))


def gold_tokens(folder: Path, prompt: Prompt) -> list[int]:
    """The gold answer and the end of the turn, as the tokenizer writes them behind the prompt."""
    builder = make_builder(folder)
    text = builder.decode(prompt.input_ids.tolist()[-4:])  # the tail of the prompt, so that merging would show
    tokenizer = builder.processor.tokenizer
    whole = tokenizer(text + builder.gold(prompt) + "<|im_end|>", add_special_tokens=False)["input_ids"]
    return whole[len(tokenizer(text, add_special_tokens=False)["input_ids"]) :]


def cross_entropy(model: Any, folder: Path, rows: Sequence[Any]) -> Tensor:
    """Mean over the gold tokens of all questions, one plain forward a question."""
    prompts = [p for row in rows if isinstance(row, list) for p in row]
    return -torch.cat([plain_logps(model, p, gold_tokens(folder, p)) for p in prompts]).mean()


@pytest.mark.parametrize("kind", KINDS)
def test_loss_and_gradient_are_those_of_one_by_one(tiny_folders: dict[str, Path], tmp_path: Path, kind: str) -> None:
    folder = tiny_folders[kind]
    rows = rows_of(folder)
    trainer, plain = make_trainer(folder, tmp_path, rows, 4, 1), load_plain(folder)
    lessons = [trainer._lesson(row) for row in rows]
    count = torch.tensor(float(sum(sum(lesson.targets) for lesson in lessons)))
    assert count == sum(len(gold_tokens(folder, p)) for row in rows for p in row)
    loss, wanted = (
        trainer.compute_loss(trainer.model, lessons, num_items_in_batch=count),
        cross_entropy(plain, folder, rows),
    )
    torch.testing.assert_close(loss, wanted, rtol=1e-9, atol=1e-12)
    loss.backward()
    wanted.backward()
    grads = {name: p.grad for name, p in trainer.model.named_parameters() if p.grad is not None}
    theirs = {name: p.grad for name, p in plain.named_parameters() if p.grad is not None}
    assert grads.keys() == theirs.keys()
    difference = torch.stack([(grads[name] - theirs[name]).norm() for name in theirs]).norm()
    assert difference <= 1e-6 * torch.stack([g.norm() for g in theirs.values()]).norm()


def test_a_clip_stands_once_for_all_its_questions(tiny_folders: dict[str, Path], tmp_path: Path) -> None:
    """The shared beginning holds all the media and reaches to the first token in which the questions differ."""
    folder = tiny_folders["qwen2_5_omni"]
    row = rows_of(folder)[0]
    lesson = make_trainer(folder, tmp_path, [row], 1, 1)._lesson(row)
    builder = make_builder(folder)
    ids = [p.input_ids.tolist() for p in row]
    same = len(lesson.shared.input_ids)
    assert all(one[:same] == ids[0][:same] for one in ids)
    assert len({one[same] for one in ids}) > 1
    media = builder.processor.tokenizer.convert_tokens_to_ids(["<|VIDEO|>", "<|AUDIO|>"])
    assert not any(set(rest) & set(media) for rest in lesson.rests)
    for one, rest, n, prompt in zip(ids, lesson.rests, lesson.targets, row, strict=True):
        assert [*one, *gold_tokens(folder, prompt)] == [*lesson.shared.input_ids.tolist(), *rest]
        assert rest[-n:] == gold_tokens(folder, prompt)
        assert builder.decode(rest[-n:]) == builder.gold(prompt)


@pytest.mark.parametrize("skipped", [False, True], ids=["", "one skipped"])
def test_accumulation_changes_nothing(tiny_folders: dict[str, Path], tmp_path: Path, skipped: bool) -> None:
    """The same four clips as 4 x 1, 2 x 2 and 1 x 4: the same weights after two steps. The logged loss of the first
    is the mean cross entropy before any step."""
    folder = tiny_folders["qwen2_5_omni"]
    results = []
    for size, accumulation in ((1, 4), (2, 2), (4, 1)):
        rows: list[Any] = rows_of(folder)
        if skipped:
            rows[1] = Skipped("clip1", "a test")
        trainer = make_trainer(folder, tmp_path / str(size), rows, size, accumulation)
        trainer.train()
        counted = [row["samples/skipped"] for row in trainer.state.log_history if "loss" in row]
        assert counted == [float(skipped)] * 2
        first = trainer.state.log_history[0]["loss"]
        assert first == pytest.approx(float(cross_entropy(load_plain(folder), folder, rows)), rel=1e-4)
        results.append({name: p.detach() for name, p in trainer.model.named_parameters()})
    for name, value in results[0].items():
        for other in results[1:]:
            torch.testing.assert_close(other[name], value, rtol=1e-8, atol=1e-10, msg=name)


def test_gold_answers_are_learned(tiny_folders: dict[str, Path], tmp_path: Path) -> None:
    """Sixty steps on four clips with frozen towers: the model says the gold answers' tokens nearly surely."""
    folder = tiny_folders["qwen2_5_omni"]
    rows = rows_of(folder)
    trainer = make_trainer(
        folder, tmp_path, rows, 4, 1, max_steps=60, optim="adamw_torch", learning_rate=0.01, logging_steps=60
    )
    freeze_towers(trainer.model, ["vision", "audio", "connector"])
    before = float(cross_entropy(load_plain(folder), folder, rows))
    trainer.train()
    with torch.no_grad():
        after = float(cross_entropy(trainer.model.eval(), folder, rows))
    assert before > 5
    assert after < 0.3
