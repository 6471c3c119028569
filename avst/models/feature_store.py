"""Features of frozen towers on disk: one safetensors file a tower and clip, so that later epochs and later runs compute
none of them.

    <root>/features/<2 digits>/<key>.safetensors

A file holds the tensor in the dtype in which it was computed, so what is read is what was computed, bit for bit; its
header holds the key and a checksum, and a damaged file counts as absent. What a key covers is said in
avst.models.feature_key, how processes share the folder in avst.bounded_folder. In memory, prompts about one clip share
one tensor for as long as one of them holds it.

The store hangs on the transformers model as `feature_store`, and avst.models.features asks it. Nothing that goes wrong
in it ends a run: what cannot be read is computed, what cannot be written is left out, with one warning.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, BinaryIO
from weakref import WeakValueDictionary

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from avst.bounded_folder import BoundedFolder

NAME = "features"


@dataclass(frozen=True, slots=True)
class FeatureStats:
    """What a store did in this process. memory, disk: hits, where features were;  computed: how often a tower ran."""

    memory: int = 0
    disk: int = 0
    computed: int = 0
    damaged: int = 0
    written: int = 0
    evicted: int = 0

    @property
    def hits(self) -> int:
        return self.memory + self.disk

    def __sub__(self, other: FeatureStats) -> FeatureStats:
        return FeatureStats(**{f.name: getattr(self, f.name) - getattr(other, f.name) for f in fields(self)})


class FeatureStore:
    """Features in `root`, at most `limit_bytes` of them. A copy of a model (avst.reference) shares its store."""

    def __init__(self, root: str | Path, limit_bytes: int) -> None:
        self.folder = BoundedFolder(
            Path(root) / "features", limit_bytes, ".safetensors", "feature cache", "clip's features"
        )
        self._held: WeakValueDictionary[tuple[str, str], Tensor] = WeakValueDictionary()
        self._stats = self._told = FeatureStats()

    def __deepcopy__(self, memo: dict[int, Any]) -> FeatureStore:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return FeatureStore, (self.folder.root.parent, self.folder.limit_bytes)  # counts and tensors stay here

    def stats(self) -> FeatureStats:
        return self._stats

    def since_told(self) -> FeatureStats:
        """What was added since the last call: for log lines."""
        new, self._told = self._stats - self._told, self._stats
        return new

    def get(self, key: str, device: torch.device, compute: Callable[[], Tensor]) -> Tensor:
        """The features known by `key` on `device`: held, read, or computed and stored. They belong to all who asked, so
        nobody may write to them."""
        held = self._held.get((key, str(device)))
        if held is not None:
            self._count(memory=1)
            return held
        features = self._read(key)
        if features is not None:
            features = features.to(device)
            self._count(disk=1)
        else:
            features = compute()
            self._count(computed=1)
            self._write(key, features)
        self._held[key, str(device)] = features
        return features

    def warn_trainable(self) -> None:
        """Say once that the store is of no use, since every tower trains."""
        self.folder.warn_once(
            "trainable",
            "model.feature_cache: no tower is frozen (model.freeze: a tower and its connector), so the policy's "
            "features change as it learns and are not kept",
        )

    def _read(self, key: str) -> Tensor | None:
        path = self.folder.path(key)
        try:
            with path.open("rb") as file:  # opened once: what another process puts in its place is another file
                data, modified_ns = file.read(), os.fstat(file.fileno()).st_mtime_ns
            features = _unpack(data, key)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except _Damaged:
            self._count(damaged=1)
            self.folder.drop(key)
            return None
        except OSError as error:
            self.folder.warn_once(
                "read", f"the feature cache {self.folder.root} cannot be read ({error.strerror}); computing instead"
            )
            return None
        self.folder.mark_used(path, modified_ns)
        return features

    def _write(self, key: str, features: Tensor) -> None:
        kept = features.detach().cpu().contiguous()

        def payload(file: BinaryIO) -> None:
            file.write(save({NAME: kept}, {"key": key, "crc32": _checksum(kept)}))

        evicted = self.folder.put(key, kept.nbytes, payload)
        if evicted is not None:
            self._count(written=1, evicted=evicted)

    def _count(self, **more: int) -> None:
        self._stats = replace(self._stats, **{name: getattr(self._stats, name) + n for name, n in more.items()})


class _Damaged(Exception):
    """The file is not what was written."""


def _unpack(data: bytes, key: str) -> Tensor:
    """The features in a file's bytes. Raises _Damaged. The format itself checks sizes, not the content."""
    try:
        features = load(data)[NAME]
        said = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
        if (said["key"], said["crc32"]) != (key, _checksum(features)):
            raise _Damaged
    except (SafetensorError, ValueError, KeyError) as error:
        raise _Damaged from error
    return features


def _checksum(tensor: Tensor) -> str:
    return f"{zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data):08x}"
