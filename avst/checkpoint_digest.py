"""Which weights are these? A checkpoint's content in one short text, the same wherever the folder stands."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from avst.durable import file_digest
from avst.errors import AvstError
from avst.models.packaged import packaged

# What shapes an answer; the trainer's own state (optimizer, scheduler, random state) does not.
SUFFIXES = (".safetensors", ".bin", ".json", ".jinja", ".txt", ".model")
TRAINER_STATE = ("trainer_state.json", "training_args.bin", "optimizer.bin", "scheduler.bin")


def checkpoint_digest(checkpoint: str | Path, revision: str | None = None) -> str:
    """A folder's files hashed whole (seconds for 7B, and the loader then finds them in memory), or a Hub commit.

    Adapters count together with their base. Raises AvstError where there is no checkpoint.
    """
    folder = Path(packaged(checkpoint))
    if not folder.is_dir():
        return _hub_commit(str(checkpoint), revision)
    adapters = folder / "adapter_config.json"
    if not adapters.is_file() and not (folder / "config.json").is_file():
        inside = folder / "final"
        hint = f"; did you mean {inside}?" if (inside / "config.json").is_file() else ""
        raise AvstError(f"{folder}: holds no checkpoint (no config.json){hint}")
    digest = hashlib.blake2b(digest_size=8)
    files = sorted(p for p in folder.iterdir() if p.suffix in SUFFIXES and p.name not in TRAINER_STATE and p.is_file())
    try:
        with ThreadPoolExecutor(4) as pool:  # hashing lets go of the interpreter, shards go side by side
            for path, content in zip(files, pool.map(file_digest, files), strict=True):
                digest.update(f"{path.name}\0{content}\0".encode())
        base = json.loads(adapters.read_text(encoding="utf-8"))["base_model_name_or_path"] if adapters.is_file() else ""
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise AvstError(f"{folder}: the checkpoint cannot be read: {error}") from error
    if base:
        digest.update(checkpoint_digest(base).encode())
    return digest.hexdigest()


def _hub_commit(name: str, revision: str | None) -> str:
    from transformers.utils import cached_file
    from transformers.utils.hub import extract_commit_hash

    try:
        found = cached_file(name, "config.json", revision=revision)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise AvstError(f"checkpoint {name}: no such folder, and no model of that name on the Hub: {reason}") from error
    return extract_commit_hash(found, None) or revision or "unknown"
