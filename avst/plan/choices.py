"""What a plan may be asked for, without torch: the command reads it before it knows whether there is anything to do."""

from __future__ import annotations

from typing import Literal, get_args

Engine = Literal["none", "ddp", "zero2", "zero3", "fsdp2"]
ENGINES: tuple[Engine, ...] = get_args(Engine)
DEFAULT_CLIP = (1280, 720, 40.0)  # width, height, seconds where neither videos nor options say
