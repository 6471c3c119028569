"""GRPO runs of tiny models whose answers are given instead of drawn, so that two ways of one step can be compared.

Imported by tests/test_trainer*.py and run as several processes by tests/scripts/grpo_processes.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import Trainer
from trl import GRPOConfig

from avst.data import Skipped
from avst.models.families import unwrapped
from avst.models.loading import freeze_towers
from avst.plugins import RewardSpec
from avst.prompt import PromptBuilder
from avst.rollout_options import RolloutOptions
from avst.scoring import Scorer
from avst.step import MicroBatch, Step
from avst.trainer import GRPOTrainer
from avst.types import Group, Prompt, Question
from avst.word_vectors import WordVectors
from tests.tiny_world import load_grouped, make_builder, make_clip, make_question

G = 3
QUESTIONS = [make_question(i, text) for i, text in enumerate(("When?", "Where is the man?", "What sounds?", "Who?"))]


def given_answers(question: Question, n: int = G) -> list[list[int]]:
    """n answers of 1 to 8 tokens, other ones for each question; always the same."""
    generator = torch.Generator().manual_seed(sum(map(ord, question.id)))
    lengths = torch.randint(1, 9, (n,), generator=generator).tolist()
    return [torch.randint(300, 400, (length,), generator=generator).tolist() for length in lengths]


def sevenths(prompts: Any, completions: Any, completion_ids: Sequence[Sequence[int]], **columns: Any) -> list[float]:
    """A reward of the token ids alone."""
    return [sum(ids) % 7 / 6 for ids in completion_ids]


def flat_for(*numbers: int) -> RewardSpec:
    """1 for every answer to the questions of these numbers: their groups have nothing to teach. The others' answers are
    worth `sevenths` and a little for their length: there all have spread."""
    flat = {QUESTIONS[number].id for number in numbers}

    def reward(prompts: Any, completions: Any, completion_ids: Any, question: Any, **columns: Any) -> list[float]:
        values = [
            value + len(ids) / 100
            for value, ids in zip(sevenths(prompts, completions, completion_ids), completion_ids, strict=True)
        ]
        return [1.0 if q.id in flat else value for q, value in zip(question, values, strict=True)]

    return RewardSpec("sevenths", reward, 1.0)


class Given(GRPOTrainer):
    """The trainer with given answers. An answer of 5 tokens or more counts as truncated. `sampled` counts prompts."""

    sampled = 0

    def _sample(self, model: Any, prompts: list[Prompt]) -> list[Group]:
        self._paths_checked = True  # nothing was generated, so there is nothing to check
        self.sampled += len(prompts)
        groups = []
        for prompt in prompts:
            answers = given_answers(prompt.question, self.num_generations)
            zeros = [[0.0] * len(answer) for answer in answers]
            groups.append(Group(prompt, answers, zeros, [len(answer) >= 5 for answer in answers]))
        return groups


def make_trainer(
    folder: Path,
    out: Path,
    rows: Sequence[Prompt | Skipped],
    *,
    trainer_class: type[GRPOTrainer] = Given,
    model: Any = None,
    builder: PromptBuilder | None = None,
    rewards: Sequence[RewardSpec] = (RewardSpec("sevenths", sevenths, 1.0),),
    peft_config: Any = None,
    completion_sink: Any = None,
    freeze: Sequence[str] = (),
    processing_class: Any = None,
    rollout_options: RolloutOptions | None = None,
    **options: Any,
) -> GRPOTrainer:
    """A trainer in float64 on the CPU that reports to nobody, by plain SGD: a step is the gradient itself.

    options are GRPOConfig's; one prompt a micro-batch unless they say otherwise.
    """
    model = load_grouped(folder) if model is None else model
    freeze_towers(unwrapped(model), freeze)
    defaults: dict[str, Any] = {
        "output_dir": str(out),
        "report_to": "none",
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "per_device_train_batch_size": G,
        "num_generations": G,
        "max_completion_length": 16,
        "save_strategy": "no",
        "disable_tqdm": True,
        "logging_steps": 1,
        "optim": "sgd",
        "learning_rate": 0.05,
        "lr_scheduler_type": "constant",
        "max_grad_norm": 1e9,
        "shuffle_dataset": False,
        "max_steps": 1,
        "dataloader_pin_memory": False,
    }
    return trainer_class(
        model=model,
        scorer=Scorer(list(rewards), WordVectors.load(None)),
        args=GRPOConfig(**(defaults | options)),
        train_dataset=list(rows),
        prompts=builder or make_builder(folder),
        peft_config=peft_config,
        completion_sink=completion_sink,
        processing_class=processing_class,
        rollout_options=rollout_options,
    )


def clip_rows(folder: Path, n: int = 4, skipped: Sequence[int] = (), silent: Sequence[int] = ()) -> list[Any]:
    """n questions about clips of different lengths; `skipped` ones could not be decoded, `silent` ones have no sound
    and no picture (text alone)."""
    builder = make_builder(folder)
    rows: list[Any] = []
    for i, question in enumerate(QUESTIONS[:n]):
        if i in skipped:
            rows.append(Skipped(question.id, "a test"))
        elif i in silent:
            rows.append(builder.build_text(question))
        else:
            rows.append(builder.build(question, make_clip(2.0 + i, seed=i)))
    return rows


def micro_batches(trainer: GRPOTrainer, batches: Sequence[Sequence[Any]]) -> list[MicroBatch]:
    """The micro-batches of one step, rolled out and scored, as `compute_loss` takes them."""
    step = Step.of([list(batch) for batch in batches])
    trainer.current_gradient_accumulation_steps = len(batches)
    return [trainer._prepare_inputs(micro) for micro in step.micro_batches]


def weights(trainer: Trainer) -> dict[str, Tensor]:
    model = trainer.accelerator.unwrap_model(trainer.model)
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def logged(trainer: GRPOTrainer, name: str) -> list[float]:
    """Every logged value of a figure, in order."""
    return [line[name] for line in trainer.state.log_history if name in line]


def perturb(model: torch.nn.Module, scale: float = 0.05, seed: int = 0) -> None:
    """The same small random step on equal models."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter.add_(noise * parameter.std().nan_to_num() * scale)
