"""GPU, attention, processor, memory, disk."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path
from typing import Any

from avst.doctor.check import Check, State
from avst.doctor.probe import ask

GB = 1e9
SHM_WANTED = 1 * GB  # loader workers hand clips over through it
VARIABLES = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "HF_HOME", "HF_HUB_OFFLINE", "AVST_DECODER_THREADS")


def check_machine(cache_dir: str | None = None) -> list[Check]:
    """cache_dir: the folder for decoded clips, None for the working folder."""
    return [*_processor(), *_disks(cache_dir), *_gpus(), *_variables()]


def _processor() -> list[Check]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    total, free = memory()
    return [
        Check("machine", "system", "ok", f"{platform.system()} {platform.release()}, {platform.machine()}"),
        Check("machine", "cores", "ok", str(cores)),
        Check("machine", "memory", "ok", f"{free / GB:.1f} GB free of {total / GB:.1f} GB"),
    ]


def memory() -> tuple[int, int]:
    """(total, available) bytes for this process: the machine's, or less where a container has a bound."""
    page = os.sysconf("SC_PAGE_SIZE")
    total, free = os.sysconf("SC_PHYS_PAGES") * page, os.sysconf("SC_AVPHYS_PAGES") * page
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError):
        pass
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        try:
            bound, taken = int(Path(limit).read_text()), int(Path(used).read_text())
        except (OSError, ValueError):  # "max": no bound
            continue
        if bound < total:
            total, free = bound, min(free, max(bound - taken, 0))
    return total, free


def _disks(cache_dir: str | None) -> list[Check]:
    places = {"disk here": "."} if cache_dir is None else {"disk at cache_dir": cache_dir, "disk here": "."}
    checks = [disk(name, place) for name, place in places.items()]
    if Path("/dev/shm").is_dir():
        size = shutil.disk_usage("/dev/shm").total
        small = size < SHM_WANTED
        mend = "docker run --shm-size=8g …, or grpo.dataloader_num_workers=0" if small else ""
        found = f"{size / GB:.1f} GB, by which loader workers hand clips over"
        checks.append(Check("machine", "shared memory", "warning" if small else "ok", found, mend))
    return checks


def disk(name: str, place: str | Path) -> Check:
    """Free space where `place` is, or will be made."""
    there = Path(place).resolve()
    while not there.exists():
        there = there.parent
    usage = shutil.disk_usage(there)
    found = f"{usage.free / GB:.1f} GB free of {usage.total / GB:.1f} GB ({place})"
    if not os.access(there, os.W_OK):
        return Check("machine", name, "broken", f"{found}, not writable", f"chmod u+w {there}, or name another folder")
    if usage.free < 2 * GB:
        return Check("machine", name, "warning", found, "free some space: a checkpoint of 7B takes 15 GB and more")
    return Check("machine", name, "ok", found)


def _gpus() -> list[Check]:
    answers, ended = ask("avst.doctor.try_gpu")
    said: dict[str, Any] = {key: value for answer in answers for key, value in answer.items()}
    gpu = said.get("gpu", {"error": ended or "no answer"})
    if "error" in gpu:
        checks = [Check("machine", "GPU", "broken", gpu["error"], "pip install --force-reinstall torch")]
    elif not gpu["devices"]:
        checks = [_no_gpu(gpu)]
    else:
        checks = [_gpu(index, about, gpu) for index, about in enumerate(gpu["devices"])]
    return [*checks, *_attentions(said.get("attention", {"error": ended or "no answer"}), gpu)]


def _no_gpu(gpu: dict[str, Any]) -> Check:
    if shutil.which("nvidia-smi") and not gpu["cuda"]:
        found = f"none for torch {gpu['torch']}, a build without CUDA, though nvidia-smi is here"
        return Check("machine", "GPU", "broken", found, "install torch's CUDA build in place of this one")
    return Check("machine", "GPU", "absent", f"none (torch {gpu['torch']}): tiny models only", "")


def _gpu(index: int, about: dict[str, Any], gpu: dict[str, Any]) -> Check:
    library = f"CUDA {gpu['cuda']}" if gpu["cuda"] else f"ROCm {gpu['hip']}"
    found = (
        f"{about['name']}, {about['free'] / GB:.0f} GB free of {about['total'] / GB:.0f} GB, {library}, capability "
        f"{about['capability']}, bfloat16 {'yes' if about['bf16'] else 'no'}"
    )
    if not about["works"]:
        return Check("machine", f"GPU {index}", "broken", f"{found}; a product came out wrong", "see `nvidia-smi -q`")
    mend = "" if about["bf16"] else "grpo.bf16=false grpo.fp16=true model.dtype=float16"
    return Check("machine", f"GPU {index}", "ok" if about["bf16"] else "warning", found, mend)


def _attentions(said: dict[str, Any], gpu: dict[str, Any]) -> list[Check]:
    if "error" in said:
        return [Check("attention", "sdpa", "broken", said["error"], "pip install --force-reinstall torch transformers")]
    sdpa: State = "ok" if said["sdpa"] else "broken"
    flash = said["flash_attention_2"]
    why = "usable" if flash else "not usable here: it needs a GPU and flash-attn"
    mend = "pip install -e '.[flash-attn]'" if not flash and gpu.get("devices") else ""
    return [
        Check("attention", "sdpa", sdpa, "torch's own; what recipes have unless they say otherwise"),
        Check("attention", "eager", "ok", "plain products; slow, for comparisons"),
        Check("attention", "flash_attention_2", "ok" if flash else "absent", why, mend),
    ]


def _variables() -> list[Check]:
    told = [f"{name}={os.environ[name]}" for name in VARIABLES if name in os.environ]
    return [Check("machine", "environment", "ok", ", ".join(told))] if told else []
