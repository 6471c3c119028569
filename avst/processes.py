"""The processes of this run: one, or those that torchrun or accelerate launch started."""

from __future__ import annotations

from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env

from avst.errors import AvstError


def processes() -> PartialState:
    """accelerate's state. Where there is no accelerator it must be told so: left alone it would take every process of a
    torchrun for the only one, and all of them would write the same files."""
    return PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available())


def refuse_data_parallel(args: Any) -> None:
    """AvstError where one process sees several GPUs: the Trainer would wrap the model in nn.DataParallel, which cuts
    tensors by rows, and a packed row is one.

    args: transformers' TrainingArguments or what extends it.
    """
    if args.n_gpu > 1:
        raise AvstError(
            f"one process sees {args.n_gpu} GPUs: start a process for each (recipes/accelerate), or show it one "
            "by CUDA_VISIBLE_DEVICES=0"
        )
