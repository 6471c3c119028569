"""What the features of a clip are known by: it changes whenever they could.

A key covers the tower (every weight and buffer, its classes, its config and attention, the versions of torch and
transformers), how it computes (dtype, autocast, device, matmul precision) and what it is given (every byte of the media
tensors, with dtype and shape). Nothing is taken on trust: not the clip's name, not the recipe's settings. What a key
leaves out is the number of CPU threads, which may move the last bit.

The price is one reading of the media tensors for each prompt, in chunks by several threads (about 1.4 GB/s each:
scripts/bench/features.py), and of the weights once a process.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

FORMAT = 1  # of the stored files, and of what avst.models.features makes of a tower's output
CHUNK = 4 << 20  # bytes hashed at a time; part of the digest
PACKAGES = ("torch", "transformers", "flash_attn")
THREADS = min(8, os.cpu_count() or 1)

# tower -> name of a weight -> (what changes when it is written to or moved, its digest)
_known: WeakKeyDictionary[nn.Module, dict[str, tuple[tuple[Any, ...], str]]] = WeakKeyDictionary()


def feature_key(model: PreTrainedModel, tower: nn.Module, modality: str, inputs: Mapping[str, Tensor]) -> str | None:
    """32 hex digits for what `tower`, in evaluation mode, makes of `inputs` (name -> tensor); None where its weights
    cannot be known."""
    weights = tower_digest(tower)
    if weights is None:
        return None
    device = model.device.type
    said = {
        "format": FORMAT,
        "tower": weights,
        "model": f"{type(model.model).__module__}.{type(model.model).__qualname__}",
        "dtype": str(model.dtype),
        "modality": modality,
        "device": torch.cuda.get_device_name(model.device) if device == "cuda" else [device, _cpu()],
        "autocast": str(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else None,
        "precision": [
            torch.get_float32_matmul_precision(),
            torch.backends.cuda.matmul.allow_tf32,
            torch.backends.cudnn.allow_tf32,
            torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction,
            torch.are_deterministic_algorithms_enabled(),
        ],
        "inputs": content_digest(inputs.items()),
    }
    return _digest(json.dumps(said, sort_keys=True).encode())


def tower_digest(tower: nn.Module) -> str | None:
    """Digest of a tower's weights, buffers, classes and config. A tensor is read again only where it has been written
    to or put elsewhere since (DDP writes to buffers at every forward, so each has its own digest). Writing by way of
    `weight.data` goes unseen; loading a checkpoint, moving, casting and in-place operations do not.

    None for a tower whose weights are not all here as plain tensors (shards of ZeRO-3 or FSDP, quantised), that has
    adapters inside (what it computes depends on whether they are switched on), or that trains.
    """
    tensors = [*tower.named_parameters(), *tower.named_buffers()]
    adapted = any(type(module).__module__.startswith("peft.") for module in tower.modules())
    if adapted or not all(_plain(tensor) for _, tensor in tensors):
        return None
    known = _known.setdefault(tower, {})
    for name, tensor in tensors:
        stamp = (tensor.data_ptr(), tensor._version, tensor.dtype, tensor.shape)
        if name not in known or known[name][0] != stamp:
            known[name] = stamp, content_digest([(name, tensor)])
    said = [_structure(tower), [known[name][1] for name, _ in tensors]]
    return _digest(json.dumps(said, sort_keys=True, default=str).encode())


def content_digest(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """Digest of names, dtypes, shapes and all bytes, in order: that of the digests of chunks of CHUNK bytes, which
    threads make side by side."""
    whole = hashlib.blake2b(digest_size=16)
    with ThreadPoolExecutor(THREADS) as pool:  # hashing lets go of the interpreter's lock
        for name, tensor in tensors:
            whole.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
            chunks = _chunks(tensor)
            for part in pool.map(_digest, chunks) if len(chunks) > 1 else map(_digest, chunks):
                whole.update(part.encode())
    return whole.hexdigest()


def _chunks(tensor: Tensor) -> list[memoryview]:
    data = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
    return [data[start : start + CHUNK] for start in range(0, len(data), CHUNK)]


def _digest(data: bytes | memoryview) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _plain(tensor: Tensor) -> bool:
    """Whether a weight is here in full and can be told from a changed one."""
    return (
        type(tensor) in (nn.Parameter, nn.Buffer, Tensor)  # no DTensor, no quantised parameter
        and not tensor.requires_grad
        and not tensor.is_inference()  # has no version
        and not tensor.is_meta
        and not hasattr(tensor, "ds_id")  # DeepSpeed's ZeRO-3
        and not getattr(tensor, "_fsdp_flattened", False)
    )


def _structure(tower: nn.Module) -> dict[str, Any]:
    config = getattr(tower, "config", None)
    said = config.to_dict() if config is not None else {}
    return {
        "classes": [[name, f"{type(m).__module__}.{type(m).__qualname__}"] for name, m in tower.named_modules()],
        "config": {
            name: value for name, value in said.items() if name not in ("_name_or_path", "transformers_version")
        },
        "attention": getattr(config, "_attn_implementation", None),
        "versions": {package: _version(package) for package in PACKAGES},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpu() -> str:
    return torch.backends.cpu.get_cpu_capability()  # which kernels: "AVX2", "AVX512"
