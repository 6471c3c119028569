"""The processes of this run: one, or those that torchrun or accelerate launch started."""

from __future__ import annotations

import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env


def processes() -> PartialState:
    """accelerate's state. Where there is no accelerator it must be told so: left alone it would take every process of a
    torchrun for the only one, and all of them would write the same files."""
    return PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available())
