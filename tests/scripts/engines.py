"""Run by torchrun from tests/test_engines.py: the same steps in engines.

    torchrun --nproc_per_node 2 tests/scripts/engines.py ENGINES CHECKPOINTS OUT [CASE]

ENGINES: ddp, zero2, zero3, zero3-offload and fsdp2, that one last. accelerate offers the latter four on accelerators
alone; here it is told that the CPU, with gloo, is one. The cases and `run_case` are imported by the test, which runs
them in one process.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import DistributedType
from PIL import Image
from transformers import AutoConfig, TrainerCallback
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled, unset_hf_deepspeed_config
from trl import GRPOConfig

from avst.data import Skipped
from avst.errors import AvstError
from avst.models.families import model_class
from avst.models.loading import lora_config
from avst.models.policy import understand_groups
from avst.rollout import Sampling
from avst.samplers import InProcess
from avst.sharding import reshard, whole
from avst.types import Group, Prompt, Space
from tests.grpo_world import QUESTIONS, G, Given, clip_rows, make_trainer
from tests.test_sft import make_trainer as make_sft_trainer
from tests.test_sft import rows_of
from tests.tiny_world import load_grouped, make_builder, make_clip, make_question

STEPS = 3
CASES: dict[str, dict[str, Any]] = {
    "omni": {"kind": "qwen2_5_omni"},
    "vl, saved": {
        "kind": "qwen2_5_vl",
        "save_strategy": "steps",
        "save_steps": 1,
        "optim": "adamw_torch",
        "adam_epsilon": 1e-3,  # a gradient that is 0 but for rounding would decide a step by its sign
    },
    "omni, LoRA": {"kind": "qwen2_5_omni", "lora": True},
    "vl, LoRA": {"kind": "qwen2_5_vl", "lora": True},
    "vl, shared out while loaded": {"kind": "qwen2_5_vl", "early": True},
    "omni, everything in a step": {
        "kind": "qwen2_5_omni",
        "mixed": True,
        "per_device_train_batch_size": 2 * G,
        "gradient_checkpointing": True,
    },
}


class Drawn(Given):
    """Learns from given answers, and keeps what the policy would have drawn: by top-k 1, so the same for everybody."""

    def _sample(self, model: Any, prompts: list[Prompt]) -> list[Group]:
        best = replace(cast(InProcess, self.sampler), sampling=Sampling(max_new_tokens=4, top_k=1))
        drawn = best.sample(model, prompts) if prompts else []
        step = self.state.global_step
        self.__dict__.setdefault("drawn", []).extend(
            (step, g.prompt.question.id, g.completion_ids, g.sampled_logps) for g in drawn
        )
        return super()._sample(model, prompts)


def mixed_rows(folder: Path) -> list[Any]:
    """Eight rows, two a micro-batch: a clip and a question alone; a silent video and an image; sound alone and a clip
    that could not be read; two clips."""
    builder = make_builder(folder)
    questions = [*QUESTIONS, *(make_question(i, "Where is the cat?") for i in range(4, 8))]
    clips = [make_clip(2.0 + i % 3, seed=i) for i in range(8)]
    return [
        builder.build(questions[0], clips[0]),
        builder.build_text(questions[1]),
        builder.build(questions[2], make_clip(3.0, sound=False, seed=2)),
        image_prompt(builder, questions[3]),
        builder.build_audio(questions[4], clips[4]),
        Skipped(questions[5].id, "a test"),
        builder.build(questions[6], clips[6]),
        builder.build(questions[7], clips[7]),
    ]


def image_prompt(builder: Any, question: Any) -> Prompt:
    pixels = np.random.default_rng(3).integers(0, 256, (56, 84, 3), dtype=np.uint8)
    text = builder._text(question, ["image"])
    inputs = builder.processor(text=[text], images=[Image.fromarray(pixels)], return_tensors="pt")
    return builder._prompt(question, inputs, Space((84, 56), (84, 56)), None, None)


def run_case(name: str, checkpoints: Path, out: Path, accumulation: int, **options: Any) -> dict[str, Any]:
    """Three steps with a KL term in float32; accumulation: 1 on each of two processes, 2 on one."""
    case = {"max_steps": STEPS, "beta": 0.04, "gradient_accumulation_steps": accumulation, **CASES[name], **options}
    folder, lora, mixed = checkpoints / case.pop("kind"), case.pop("lora", False), case.pop("mixed", False)
    # row 1 is a question alone, so that the second rank needs no tower
    rows = mixed_rows(folder) if mixed else clip_rows(folder, 4, silent=(1,))
    resume = case.pop("resume", None)
    if case.pop("early", False):  # as in a run: with ZeRO-3's settings there, from_pretrained keeps a share alone
        sizes = {"num_generations": G, "per_device_train_batch_size": G}
        settings = GRPOConfig(str(out), report_to="none", bf16=False, **sizes, **options)
        model = understand_groups(model_class(AutoConfig.from_pretrained(folder)).from_pretrained(folder))
        assert hasattr(model.lm_head.weight, "ds_id") == (
            settings.deepspeed is not None and is_deepspeed_zero3_enabled()
        )
    else:
        unset_hf_deepspeed_config()
        model = load_grouped(folder, torch.float32)
    if lora:
        case["peft_config"] = lora_config(model, r=4)
    torch.manual_seed(0)  # adapters start alike
    trainer = make_trainer(folder, out, rows, model=model, trainer_class=Drawn, **case)
    trainer.train(resume_from_checkpoint=resume)
    return left(trainer) | {"drawn": trainer.__dict__["drawn"]}


def run_sft(checkpoints: Path, out: Path, accumulation: int, **options: Any) -> dict[str, Any]:
    """Two supervised steps of Omni; the second clip could not be read, so that a rank has none."""
    unset_hf_deepspeed_config()
    folder = checkpoints / "qwen2_5_omni"
    rows: list[Any] = rows_of(folder)
    rows[1] = Skipped("clip1", "a test")
    model = load_grouped(folder, torch.float32)
    trainer = make_sft_trainer(folder, out, rows, 1, accumulation, model=model, **options)
    trainer.train()
    return left(trainer)


def left(trainer: Any) -> dict[str, Any]:
    """Logs and whole weights."""
    reshard(trainer.model_wrapped)
    inner = trainer.accelerator.unwrap_model(trainer.model_wrapped)
    with whole(inner.parameters()) as tensors:
        names = [name for name, _ in inner.named_parameters()]
        kept = {name: value.detach().clone() for name, value in zip(names, tensors, strict=True)}
    engine = type(trainer.model_wrapped).__name__
    return {"logs": trainer.state.log_history, "weights": kept, "engine": engine}


class Spoiled(Drawn):
    """In its second step the loss of the second rank is no number."""

    def _policy_loss(self, *args: Any) -> Any:
        result = super()._policy_loss(*args)
        if self.state.global_step == 1 and self.args.process_index == 1:
            result.loss = result.loss * math.nan
        return result


def run_spoiled(checkpoints: Path, out: Path, **options: Any) -> dict[str, Any]:
    """Two steps: the weights after each, what was said where the run ended, and whose batch was kept."""
    unset_hf_deepspeed_config()
    folder = checkpoints / "qwen2_5_vl"
    rows, model = clip_rows(folder, 4, silent=(1,)), load_grouped(folder, torch.float32)
    trainer = make_trainer(folder, out, rows, model=model, trainer_class=Spoiled, max_steps=2, **options)
    seen: list[dict[str, torch.Tensor]] = []

    def look(*_: Any) -> None:
        reshard(trainer.model_wrapped)
        with whole(trainer.accelerator.unwrap_model(trainer.model_wrapped).parameters()) as tensors:
            seen.append({str(number): value.detach().clone() for number, value in enumerate(tensors)})

    trainer.add_callback(AfterStep(look))
    said = ""
    try:
        trainer.train()
    except AvstError as error:
        said = str(error)
        look()
    kept = sorted(path.name for path in out.glob("bad_steps/*"))
    return {"weights": seen, "said": said, "kept": kept}


class AfterStep(TrainerCallback):
    def __init__(self, act: Callable[[], None]) -> None:
        self.act = act

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.act()


def zero(stage: int, offload: bool) -> dict[str, Any]:
    """DeepSpeed's settings as transformers takes them."""
    cpu = {"device": "cpu"}
    sharing: dict[str, Any] = {"stage": stage, "stage3_gather_16bit_weights_on_model_save": True}
    return {
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "zero_optimization": sharing | ({"offload_param": cpu, "offload_optimizer": cpu} if offload else {}),
    }


def settings_of(engine: str) -> dict[str, Any]:
    """What makes the trainer use it; in the environment and in its arguments."""
    if engine == "ddp":
        return {"use_cpu": True}
    os.environ["ACCELERATE_TORCH_DEVICE"] = "cpu"
    PartialState._prepare_backend = lambda *args, **kwargs: ("gloo", DistributedType.MULTI_GPU)  # type: ignore[method-assign]
    if engine == "fsdp2":
        os.environ.update(
            ACCELERATE_USE_FSDP="true",
            FSDP_VERSION="2",
            FSDP_AUTO_WRAP_POLICY="TRANSFORMER_BASED_WRAP",
            FSDP_RESHARD_AFTER_FORWARD="true",
            FSDP_STATE_DICT_TYPE="FULL_STATE_DICT",
        )
        return {"use_cpu": False}
    import deepspeed.ops

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # would be compiled: slow, and needs a compiler
    return {"use_cpu": False, "deepspeed": zero(int(engine[4]), engine.endswith("offload"))}


if __name__ == "__main__":
    engines, checkpoints, out = sys.argv[1].split(","), Path(sys.argv[2]), Path(sys.argv[3])
    torch.set_num_threads(1)
    for engine in engines:
        options = settings_of(engine)
        for number, name in enumerate(CASES):
            if sys.argv[4:] not in ([], [name]):
                continue
            folder = out / f"{engine}{number}"
            results = [run_case(name, checkpoints, folder, 1, **options)]
            if "save_steps" in CASES[name]:
                results.append(run_case(name, checkpoints, folder, 1, resume=str(folder / "checkpoint-2"), **options))
            torch.save(results, out / f"{engine}{number}-rank{os.environ['RANK']}.pt")
        if not sys.argv[4:]:
            result = run_sft(checkpoints, out / f"{engine}-sft", 1, **options)
            torch.save(result, out / f"{engine}-sft-rank{os.environ['RANK']}.pt")
            spoiled = run_spoiled(checkpoints, out / f"{engine}-spoiled", **options)
            torch.save(spoiled, out / f"{engine}-spoiled-rank{os.environ['RANK']}.pt")
    torch.distributed.destroy_process_group()
