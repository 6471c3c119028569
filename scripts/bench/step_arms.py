"""The two trainers of scripts/bench/step.py, each for a process of its own: one optimizer step a call.

Both start from the same checkpoint, ask the same questions about the same images through the same processor, write
answers of exactly C tokens, and are rewarded by the same rule. A trainer runs in a thread and waits behind every step
until it is called again, so that a call takes what a step takes: data, rollout, rewards, reference, policy, AdamW.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset
from transformers import AutoProcessor, Trainer, TrainerCallback
from trl import GRPOConfig

SYSTEM, USER = "Answer the question about the pictures.", "What makes the sound, when, and where in the picture?"
ROWS = 8
FIRST = "first_answers.pt"  # in the output folder: what TRL answered first, for avst to score


def trl_arm(**shape: Any) -> Callable[[], dict[str, Any]]:
    """TRL's own GRPOTrainer. shape: see `options`."""
    from datasets import Dataset as Table
    from transformers import Qwen2_5_VLForConditionalGeneration
    from trl import GRPOTrainer

    folder, first = shape["folder"], Path(shape["out"]) / FIRST
    first.parent.mkdir(parents=True, exist_ok=True)
    first.unlink(missing_ok=True)
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    if shape["frozen"]:
        model.model.visual.requires_grad_(False)
    processor = AutoProcessor.from_pretrained(folder)
    all_images = _all_images(shape)
    rows = [{"prompt": _messages(len(images)), "images": images, "row": i} for i, images in enumerate(all_images)]

    class Counted(GRPOTrainer):
        """Keeps what the bench compares: P, answers' lengths, the first answers with their log-probs."""

        def _generate_and_score_completions(self, inputs: Any) -> Any:
            batch = super()._generate_and_score_completions(inputs)
            if not first.exists():  # nothing is learned yet: the reference's log-probs are the policy's
                names = ("completion_ids", "ref_per_token_logps")
                torch.save({"rows": [row["row"] for row in inputs]} | {name: batch[name] for name in names}, first)
            self.seen = {
                "prompt_tokens": int(batch["prompt_mask"][0].sum()),
                "answer_tokens": int(batch["completion_mask"].sum()),
            }
            return batch

    trainer = Counted(
        model=model,
        reward_funcs=sevenths,
        args=options(**shape, generation_kwargs={"min_new_tokens": shape["answer_tokens"]}),
        train_dataset=Table.from_list(rows),
        processing_class=processor,
    )
    return _step_by_step(trainer, lambda: trainer.seen)


def avst_arm(**shape: Any) -> Callable[[], dict[str, Any]]:
    """avst's GRPOTrainer. shape: see `options`."""
    from avst.models.loading import load
    from avst.plugins import RewardSpec
    from avst.prompt import PromptBuilder
    from avst.scoring import Scorer
    from avst.trainer import GRPOTrainer
    from avst.types import Group, Prompt
    from avst.word_vectors import WordVectors

    freeze = ["vision", "connector"] if shape["frozen"] else []
    model, processor, family = load(shape["folder"], dtype="float32", freeze=freeze)
    rows = _Prompts(processor, shape)

    class Counted(GRPOTrainer):
        """Keeps what the bench compares: P, answers' lengths, how far TRL's first log-probs are from avst's."""

        apart: float | None = None

        def _sample(self, model: Any, prompts: list[Prompt]) -> list[Group]:
            if self.apart is None:
                self.apart = logps_apart(model, rows, Path(shape["out"]) / FIRST)
            groups = super()._sample(model, prompts)
            self.seen = {
                "logps_apart": self.apart,
                "prompt_tokens": int(prompts[0].input_ids.numel()),
                "answer_tokens": sum(len(ids) for group in groups for ids in group.completion_ids),
            }
            return groups

        def phases(self) -> dict[str, float]:
            """Seconds of this step, which has not been logged yet."""
            seconds = {k.removeprefix("seconds/"): v for k, v in self.meter.totals.items() if k.startswith("seconds/")}
            inside = ("rollout", "rewards", "reference", "forward")
            return seconds | {"backward": seconds.pop("step") - sum(seconds.get(name, 0.0) for name in inside)}

    trainer = Counted(
        model=model,
        scorer=Scorer([RewardSpec("sevenths", sevenths, 1.0)], WordVectors.load(None)),
        args=options(**shape),
        train_dataset=rows,
        prompts=PromptBuilder(processor, family, 512),
    )
    trainer.end_ids = [model.config.get_text_config().vocab_size]  # a token that cannot be drawn: no answer ends
    return _step_by_step(trainer, lambda: trainer.seen | {"phases": trainer.phases()})


@torch.no_grad()
def logps_apart(model: Any, prompts: Dataset[Any], first: Path) -> float:
    """The largest difference, in nats, between the log-probs of TRL's first answers as TRL computed them and as the
    packed forward does. `model` must still have the checkpoint's weights."""
    from avst.models.families import prompt_positions
    from avst.models.packing import pack

    theirs = torch.load(first)
    apart = 0.0
    for row in sorted(set(theirs["rows"])):
        of_row = [i for i, other in enumerate(theirs["rows"]) if other == row]
        prompt = prompts[row]
        packed = pack([prompt], [theirs["completion_ids"][of_row].tolist()], [prompt_positions(model, prompt)])
        difference = model(packed=packed)["logps"] - theirs["ref_per_token_logps"][of_row].flatten()
        apart = max(apart, float(difference.abs().max()))
    return apart


def options(
    folder: str,
    out: str,
    prompts: int,
    answers: int,
    answer_tokens: int,
    images: int,
    side: int,
    frozen: bool,
    beta: float,
    **more: Any,
) -> GRPOConfig:
    """The options of both trainers.

    folder: the checkpoint;  prompts: of a step, by gradient accumulation;  answers: G;  answer_tokens: C;
    images: of a prompt, side x side pixels;  frozen: the vision tower with its connector does not learn.
    """
    return GRPOConfig(
        output_dir=out,
        num_generations=answers,
        per_device_train_batch_size=answers,
        gradient_accumulation_steps=prompts,
        max_completion_length=answer_tokens,
        beta=beta,
        loss_type="grpo",
        learning_rate=1e-5,
        max_steps=100_000,
        optim="adamw_torch",
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=True,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
        **more,
    )


def sevenths(
    prompts: Any, completions: Any, completion_ids: Sequence[Sequence[int]], **columns: Any
) -> list[float | None]:
    """A reward of the token ids alone."""
    return [sum(ids) % 7 / 6 for ids in completion_ids]


class _Prompts(Dataset[Any]):
    """The rows as avst's prompts, made when they are asked for, as TRL processes its images within a step."""

    def __init__(self, processor: Any, shape: dict[str, Any]) -> None:
        self.processor, self.rows = processor, _all_images(shape)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        from avst.types import Answer, Prompt, Question, Space

        images = self.rows[index]
        text = self.processor.apply_chat_template(_messages(len(images)), tokenize=False, add_generation_prompt=True)
        media = dict(self.processor(text=[text], images=images, return_tensors="pt"))
        ids = media.pop("input_ids")[0]
        del media["attention_mask"]
        question = Question(f"{index}", "temporal", USER, "", 0.0, gold=Answer(), gold_text="")
        return Prompt(question, ids, media, Space((1, 1), (1, 1)))


def _messages(images: int) -> list[dict[str, Any]]:
    return [
        {"role": "system", "content": [{"type": "text", "text": SYSTEM}]},
        {"role": "user", "content": [{"type": "image"}] * images + [{"type": "text", "text": USER}]},
    ]


def _all_images(shape: dict[str, Any]) -> list[list[Image.Image]]:
    generator = np.random.default_rng(0)
    side = shape["side"]
    return [
        [Image.fromarray(generator.integers(0, 256, (side, side, 3), np.uint8)) for _ in range(shape["images"])]
        for _ in range(ROWS)
    ]


class _OneByOne(TrainerCallback):
    """Holds the training behind each step until `turn` is released."""

    def __init__(self) -> None:
        self.turn, self.done = threading.Semaphore(0), threading.Semaphore(0)

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.done.release()
        self.turn.acquire()


def _step_by_step(trainer: Trainer, seen: Callable[[], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
    """The callable of an arm: one more optimizer step; its result is what `seen` gives and resident_bytes, the memory
    held before the first step. What fails in the trainer's thread fails in the call."""
    pace = _OneByOne()
    resident = _resident_bytes()
    trainer.add_callback(pace)
    failed: list[BaseException] = []

    def train() -> None:
        pace.turn.acquire()
        try:
            trainer.train()
        except BaseException as error:
            failed.append(error)
            pace.done.release()

    threading.Thread(target=train, daemon=True).start()

    def once() -> dict[str, Any]:
        pace.turn.release()
        pace.done.acquire()
        if failed:
            raise failed[0]
        return seen() | {"resident_bytes": resident}

    return once


def _resident_bytes() -> int:
    """The memory that this process holds now (Linux: VmRSS)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def make_checkpoint(folder: Path, **sizes: Any) -> None:
    """A checkpoint of Qwen2.5-VL's shape, of the given sizes (avst.models.tiny.make_tiny)."""
    from avst.models.tiny import make_tiny

    make_tiny("qwen2_5_vl", folder, **sizes)
