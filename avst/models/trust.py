"""What of a model's folder is opened, and what is refused: weights are safetensors, which hold numbers alone.

A .bin or .pt is a pickle, and opening one may run code. It is refused unless `model.allow_pickle` says otherwise, and
even then it is read by torch's weights-only reader, which builds tensors and plain values and refuses all else. Code in
the folder (auto_map, custom_generate) is never run: trust_remote_code is off wherever something is loaded.
"""

from __future__ import annotations

import json
import pickle
from pathlib import Path, PurePosixPath

from safetensors import SafetensorError

from avst.errors import AvstError
from avst.models.packaged import packaged

# What libraries raise for weights that are not what they should be. ImportError: a quantisation nobody installed.
DAMAGED = (OSError, SafetensorError, pickle.UnpicklingError, ImportError, RecursionError)
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
OTHERS = ("training_args.bin",)  # written by the Trainer, read by nobody here


def refuse_pickles(folder: str | Path, allowed: bool = False) -> None:
    """Raises AvstError where the weights or adapters in `folder` are pickles alone. A Hub name is left to the loader,
    which is told to take safetensors."""
    folder = Path(folder)
    if allowed or not folder.is_dir():
        return
    adapters = (folder / "adapter_config.json").is_file()
    if (folder / "adapter_model.safetensors").is_file() if adapters else any(folder.glob("*.safetensors*")):
        return
    found = sorted(p.name for kind in PICKLES for p in folder.glob(kind) if p.name not in OTHERS)
    if found:
        raise AvstError(
            f"model.path {folder}: {found[0]} is a pickle, and opening one may run code; save the weights as "
            "safetensors (save_pretrained does), or set model.allow_pickle=true to read its tensors alone"
        )
    if adapters:
        raise AvstError(f"model.path {folder}: there is no adapter_model.safetensors")


def refuse_shards_elsewhere(folder: str | Path) -> None:
    """Raises AvstError where the list of a checkpoint's files names one outside of its folder."""
    for index in sorted(Path(folder).glob("*.index.json")) if Path(folder).is_dir() else ():
        try:
            names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise AvstError(f"{index}: damaged: {why(error)}") from error
        for name in names:
            if not isinstance(name, str) or PurePosixPath(name).name != name or "\\" in name:
                raise AvstError(f"{index}: refused, it names {name!r}, which is no file beside it")


def adapter_base(path: Path) -> str:
    """The model that adapters are for, by their adapter_config.json."""
    try:
        return str(packaged(json.loads(path.read_text(encoding="utf-8"))["base_model_name_or_path"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise AvstError(f"{path}: does not say which model these adapters are for ({error})") from error


def why(error: BaseException) -> str:
    """A library's message as the end of a line."""
    return " ".join(str(error).split())[:200] or type(error).__name__
