"""The processes of this run: one, or those that torchrun or accelerate launch started."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env

from avst.errors import AvstError

# what says how many processes were asked for, in the order of belief, and who set it
ASKED = {"WORLD_SIZE": "the launcher", "OMPI_COMM_WORLD_SIZE": "mpirun", "SLURM_STEP_NUM_TASKS": "srun"}


def processes() -> PartialState:
    """accelerate's state. Where there is no accelerator it must be told so: left alone it would take every process of a
    torchrun for the only one, and all of them would write the same files. AvstError where there are fewer than the
    launcher was asked for."""
    state = PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available())
    refuse_lost_processes(state.num_processes, os.environ)
    return state


def refuse_lost_processes(found: int, environment: Mapping[str, str]) -> None:
    """AvstError where a launcher was asked for other processes than those that know of each other.

    found: how many do;  environment: what the launcher has left.
    """
    name = next((name for name in ASKED if name in environment), None)
    if name is not None and (asked := environment[name]) != str(found):
        raise AvstError(
            f"{ASKED[name]} started {asked} processes ({name}), but this one knows of {found}: each would train by "
            "itself and write the same files. docs/training.md shows launches for CPU, GPUs and several hosts"
        )
    # accelerate says where the processes meet if there are several, and ranks only to those that it gave a GPU each
    accelerated = "ACCELERATE_MIXED_PRECISION" in environment and "MASTER_ADDR" in environment
    if found == 1 and accelerated and not environment.keys() & {"LOCAL_RANK", "WORLD_SIZE"}:
        raise AvstError(
            "accelerate launch was asked for several processes and started one (it does so with --cpu, and without a "
            "GPU for each): on CPU use torchrun --nproc_per_node N -m avst ..., on one GPU --num_processes 1"
        )


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
