"""Run by torchrun from tests/test_trainer_processes.py: every case on this many processes, weights and logs to files.

    torchrun --nproc_per_node 2 tests/scripts/grpo_processes.py CHECKPOINTS OUT

The cases and `run_case` are imported by the test, which runs the same steps in one process.
"""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model

from avst.data import Skipped
from avst.models.loading import lora_config
from avst.rollout_options import RolloutOptions
from avst.step import MicroBatch
from tests.grpo_world import QUESTIONS, G, Given, clip_rows, flat_for, make_trainer, weights
from tests.test_sft import make_trainer as make_sft_trainer
from tests.test_sft import rows_of
from tests.tiny_world import load_grouped

# By AdamW a zero gradient is not the same as none. Of the first step's groups the second rank's is flat (and text
# alone), of the second's both are.
ADAM_FLAT: dict[str, Any] = {
    "kind": "qwen2_5_vl",
    "rewards": [flat_for(1, 2, 3)],
    "silent": (1,),
    "max_steps": 3,
    "optim": "adamw_torch",
    "adam_epsilon": 1e-3,
    "learning_rate": 0.01,
    "weight_decay": 0.1,
}


class OneNaN(Given):
    """In the first step the loss of the second question is no number."""

    def _policy_loss(self, micro: MicroBatch, *rest: Any) -> Any:
        result = super()._policy_loss(micro, *rest)
        if self.state.global_step == 0 and micro.prompts[0].question.id == QUESTIONS[1].id:
            result.loss = result.loss * math.nan
        return result


# Options of GRPOConfig; kind, lora, freeze, silent and skipped say of what model and on what rows; at_once: one process
# takes both prompts of a step as one micro-batch. Rows 0 and 1 make the first step, 2 and 3 the second.
CASES: dict[str, dict[str, Any]] = {
    "dapo, KL": {"kind": "qwen2_5_omni", "loss_type": "dapo", "beta": 0.04},
    "grpo, two iterations": {
        "kind": "qwen2_5_vl",
        "loss_type": "grpo",
        "beta": 0.04,
        "num_iterations": 2,
        "max_steps": 4,
    },
    "batch scale, one rank without media": {
        "kind": "qwen2_5_omni",
        "scale_rewards": "batch",
        "silent": (1,),
    },
    "one rank's only clip failed": {
        "kind": "qwen2_5_omni",
        "loss_type": "dapo",
        "beta": 0.04,
        "scale_rewards": "batch",
        "skipped": (1, 2),
    },
    "top entropy": {"kind": "qwen2_5_vl", "top_entropy_quantile": 0.4, "at_once": True},
    "normalize then sum": {
        "kind": "qwen2_5_vl",
        "multi_objective_aggregation": "normalize_then_sum",
        "skipped": (3,),
    },
    "every clip of a step failed": {"kind": "qwen2_5_vl", "loss_type": "dr_grpo", "skipped": (0, 1)},
    "one rank's groups are flat, then both": {
        "kind": "qwen2_5_omni",
        "loss_type": "dapo",
        "rewards": [flat_for(1, 2, 3)],
        "silent": (1,),
        "max_steps": 3,
    },
    "flat groups, two iterations": {
        "kind": "qwen2_5_vl",
        "loss_type": "grpo",
        "rewards": [flat_for(0, 3)],
        "num_iterations": 2,
        "max_steps": 4,
    },
    "flat groups, AdamW": {**ADAM_FLAT, "rollout_options": RolloutOptions()},
    "flat groups, AdamW, all computed": {**ADAM_FLAT, "rollout_options": RolloutOptions(skip_flat_groups=False)},
    "one rank asks another question": {
        "kind": "qwen2_5_vl",
        "scale_rewards": "batch",
        "rewards": [flat_for(0)],
        "rollout_options": RolloutOptions(resample_rounds=3),
    },
    "one rank's loss is NaN": {**ADAM_FLAT, "rewards": [flat_for()], "trainer_class": OneNaN},
    "LoRA, KL": {"kind": "qwen2_5_vl", "beta": 0.04, "lora": True},
    "frozen towers, checkpointing": {
        "kind": "qwen2_5_omni",
        "loss_type": "bnpo",
        "freeze": ("vision", "audio"),
        "gradient_checkpointing": True,
        "gradient_checkpointing_kwargs": {"use_reentrant": False},
        "silent": (1,),
    },
}


def run_case(name: str, checkpoints: Path, out: Path, accumulation: int) -> dict[str, Any]:
    """Two steps (more where the case says so) over two micro-batches each, on however many processes this is."""
    options = dict(CASES[name])
    folder = checkpoints / options.pop("kind")
    rows = clip_rows(folder, 4, options.pop("skipped", ()), options.pop("silent", ()))
    if options.pop("at_once", False):  # the quantile is taken over a micro-batch of all processes, as in TRL
        options["per_device_train_batch_size"], accumulation = G * accumulation, 1
    if options.pop("lora", False):
        torch.manual_seed(0)
        base = load_grouped(folder)
        options["model"] = get_peft_model(base, lora_config(base, r=4)).double()
    options = {"max_steps": 2, "gradient_accumulation_steps": accumulation, **options}
    trainer = make_trainer(folder, out, rows, **options)
    first: list[dict[str, torch.Tensor]] = []
    step = trainer.training_step

    def keep_first(*args: Any, **kwargs: Any) -> Any:
        if trainer.state.global_step == 1 and not first:
            first.append(weights(trainer))
        return step(*args, **kwargs)

    trainer.training_step = keep_first  # type: ignore[method-assign]
    trainer.train()
    kept = sorted(path.name for path in out.glob("bad_steps/*"))
    return {"first": first[0], "last": weights(trainer), "logs": trainer.state.log_history, "kept": kept}


def run_sft(checkpoints: Path, out: Path, accumulation: int) -> dict[str, torch.Tensor]:
    """Two supervised steps over two clips each; the second clip could not be decoded, so that one rank has none."""
    folder = checkpoints / "qwen2_5_omni"
    rows: list[Any] = rows_of(folder)
    rows[1] = Skipped("clip1", "a test")
    trainer = make_sft_trainer(folder, out, rows, 1, accumulation)
    trainer.train()
    return weights(trainer)


if __name__ == "__main__":
    checkpoints, out = Path(sys.argv[1]), Path(sys.argv[2])
    torch.set_num_threads(1)
    for number, name in enumerate(CASES):
        result = run_case(name, checkpoints, out / f"case{number}", accumulation=1)
        torch.save(result, out / f"case{number}-rank{os.environ['RANK']}.pt")
    torch.save(run_sft(checkpoints, out / "sft", accumulation=1), out / f"sft-rank{os.environ['RANK']}.pt")
    torch.distributed.destroy_process_group()
