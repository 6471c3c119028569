"""Make the model that comes with avst: a tiny Omni, taught by SFT to answer the quickstart's questions middlingly.

    python -m scripts.cold_start                    avst/models/tiny_omni anew, in about 40 minutes on two cores
    python -m scripts.cold_start --out runs/cold --steps 20   a look at it

What is special: weights and tokens made for learning fast (avst/models/tiny_weights.py), Muon (optimizer.py), clips
that grow (lessons.py), scenes whose colours say where and when one is (avst/scenes/bearings.py). What is not: the same
prompts, packed rows and SFTTrainer as `avst sft`. The figures in the model card are those of `avst eval` on clips that
went through the encoder, drawn with a seed of their own and used for nothing else.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers import TrainingArguments

from avst import assemble
from avst.config import Recipe, load_recipe
from avst.models.tiny import make_tiny
from avst.sft import SFTTrainer
from scripts.cold_start.card import write_card
from scripts.cold_start.lessons import Lessons
from scripts.cold_start.optimizer import MuonWithAdamW

ROOT = Path(__file__).resolve().parents[2]
SHAPE: dict[str, Any] = {"audio_tokens_per_second": 10, "max_audio_s": 8, "numbers": 160, "ready_to_learn": True}
CLIPS_A_STEP = 12
MUON_LR, ADAMW_LR = 0.02, 2e-3
WARMUP_STEPS, FALLS_FROM = 50, 0.5  # the learning rate rises, stays, and from half of the steps on falls to nothing


class ColdStart(SFTTrainer):
    """SFT in the lessons' own order, by Muon."""

    def get_train_dataloader(self) -> DataLoader[Any]:
        return self.rows_in_steps(self.args.per_device_train_batch_size, shuffle=False)

    def create_optimizer(self, model: torch.nn.Module | None = None) -> torch.optim.Optimizer:
        self.optimizer = MuonWithAdamW(self.model, MUON_LR, ADAMW_LR)
        return self.optimizer

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LambdaLR:
        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer or self.optimizer, lambda step: rate_at(step, num_training_steps)
        )
        return self.lr_scheduler


def rate_at(step: int, steps: int) -> float:
    """The learning rate's share of its highest."""
    done = step / steps
    fall = 1.0 if done < FALLS_FROM else (1 + math.cos(math.pi * (done - FALLS_FROM) / (1 - FALLS_FROM))) / 2
    return min(1.0, (step + 1) / WARMUP_STEPS) * max(0.02, fall)


def trainer_for(recipe: Recipe, work: Path, steps: int, seed: int) -> ColdStart:
    """A raw model, its lessons and its optimizer. work: a folder for what is in between."""
    torch.manual_seed(seed)
    raw = make_tiny("qwen2_5_omni", work / "raw", seed=seed, **SHAPE)
    parts = assemble.policy(replace(recipe, model=replace(recipe.model, path=str(raw))))
    args = TrainingArguments(
        output_dir=str(work / "sft"),
        max_steps=steps,
        per_device_train_batch_size=CLIPS_A_STEP,
        logging_steps=25,
        save_strategy="no",
        report_to="none",
        remove_unused_columns=False,
        use_cpu=True,
        dataloader_pin_memory=False,
        dataloader_num_workers=1,
        dataloader_prefetch_factor=2,
        seed=seed,
    )
    lessons = Lessons(steps * CLIPS_A_STEP, parts.prompts, recipe.media.fps, seed)
    return ColdStart(parts.model, args, lessons, parts.prompts, parts.processor)


def teach(trainer: ColdStart, out: Path) -> float:
    """Train, and write the model to `out`; returns the seconds it took."""
    begun = time.monotonic()
    trainer.train()
    trainer.model.save_pretrained(out)
    trainer.prompts.processor.save_pretrained(out)
    return time.monotonic() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "avst" / "models" / "tiny_omni")
    parser.add_argument(
        "--work", type=Path, default=Path("runs/tiny_omni"), help="clips of the evaluation, its answers"
    )
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clips", type=int, default=200, help="on which it is evaluated")
    args = parser.parse_args()
    recipe = load_recipe(ROOT / "recipes" / "quickstart.yaml")
    seconds = teach(trainer_for(recipe, args.work, args.steps, args.seed), args.out)
    write_card(recipe, args.out, args.work, args.steps, args.steps * CLIPS_A_STEP, args.seed, seconds, args.clips)


if __name__ == "__main__":
    main()
