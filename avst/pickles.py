"""What a checkpoint's pickles would import, read without opening them.

The Trainer's own states (optimizer, scheduler, random states) are read by torch's weights-only reader, which runs
nothing. DeepSpeed reads its ranks' files as ordinary pickles, and so does torch.distributed.checkpoint its `.metadata`:
whoever can write to a run's folder could have code run by `avst resume`. So these files are looked through first, as
torch.load would find them, and a name that is neither a tensor's nor one of DeepSpeed's few records is refused.
"""

from __future__ import annotations

import pickle
from pathlib import Path, PurePosixPath

import torch

from avst.errors import AvstError

ENDINGS = (".pt", ".pth", ".bin", ".ckpt", ".pkl")
NEVER_OPENED = ("training_args.bin",)
# What DeepSpeed 0.19 keeps beside tensors: two records of numbers, an enum, and where a parameter lies in a buffer.
# numpy's are those that transformers' random states hold, and that it lets the weights-only reader have.
KNOWN = frozenset(
    {
        "numpy.ndarray",
        "numpy.dtype",
        "numpy.dtypes.UInt32DType",
        "numpy.core.multiarray._reconstruct",
        "numpy._core.multiarray._reconstruct",
        "deepspeed.runtime.fp16.loss_scaler.LossScaler",
        "deepspeed.runtime.fp16.loss_scaler.DynamicLossScaler",
        "deepspeed.runtime.zero.config.ZeroStageEnum",
        "deepspeed.utils.tensor_fragment.fragment_address",
    }
)


def refuse_foreign(checkpoint: Path) -> None:
    """Raises AvstError for a file of the checkpoint that would run more than a checkpoint needs, and for a link: what
    it leads to is not looked through."""
    if links := sorted(p for p in checkpoint.rglob("*") if p.is_symlink()):
        raise AvstError(f"{links[0]}: refused, a checkpoint has no links")
    for file in sorted(p for p in checkpoint.rglob("*") if p.is_file() and p.name not in NEVER_OPENED):
        if file.name.endswith(".metadata"):
            found = ["a pickle of torch.distributed.checkpoint"]
        elif file.suffix.lower() in ENDINGS:
            found = foreign(file)
        else:
            continue
        if found:
            raise AvstError(
                f"{file}: refused, opening it may run code: {', '.join(found[:3])}; "
                f"--model {checkpoint} starts another run from its weights alone"
            )
    latest = checkpoint / "latest"  # DeepSpeed's word for which folder to read
    if latest.is_file():
        name = latest.read_text(encoding="utf-8", errors="replace").strip()
        if PurePosixPath(name).name != name:
            raise AvstError(f"{latest}: refused, it names {name[:80]!r}, which is no folder beside it")


def foreign(file: Path) -> list[str]:
    """What the file would import that a checkpoint has no need of. Example: ["posix.system"]."""
    try:
        named = torch.serialization.get_unsafe_globals_in_checkpoint(str(file))
    except (ValueError, RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
        return [f"it is not what torch.save writes ({' '.join(str(error).split())[:80]})"]
    return sorted(set(named) - KNOWN)
