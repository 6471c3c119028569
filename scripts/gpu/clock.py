"""Seconds and peak memory on the device at hand, CUDA's with its events and synchronisation in mind."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch

Fields = dict[str, Any]


@dataclass(frozen=True)
class Clock:
    """device: "cuda" or "cpu";  warmup, repeats: of every measurement."""

    device: str
    warmup: int = 2
    repeats: int = 5

    @property
    def cuda(self) -> bool:
        return self.device == "cuda"

    def measure(self, run: Callable[[], object]) -> Fields:
        """{"seconds": the median, "all_seconds", "peak_gb": of the runs, what was held before included}."""
        for _ in range(self.warmup):
            run()
        self.sync()
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
        seconds = []
        for _ in range(self.repeats):
            start = time.perf_counter()
            run()
            self.sync()
            seconds.append(time.perf_counter() - start)
        peak = torch.cuda.max_memory_allocated() / 1e9 if self.cuda else None
        return {"seconds": median(seconds), "all_seconds": seconds, "peak_gb": peak}

    def sync(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()

    def free(self) -> None:
        """Give back what earlier phases left."""
        gc.collect()
        if self.cuda:
            torch.cuda.empty_cache()


def copy_bandwidth(clock: Clock) -> float:
    """Bytes a second of a device-to-device copy, read and written."""
    size = 1 << 30 if clock.cuda else 1 << 24
    source = torch.empty(size, dtype=torch.uint8, device=clock.device)
    target = torch.empty_like(source)
    return 2 * size / clock.measure(lambda: target.copy_(source))["seconds"]


# dense bfloat16 TFLOP/s by the makers' data sheets
_PEAK = {"H100": 989, "H200": 989, "A100": 312, "A6000": 155, "4090": 165, "L40": 181, "B200": 2250}


def peak_tflops(asked: float | None) -> float | None:
    """What was asked for, else the data sheet's number for this GPU; None where it is not known."""
    if asked is not None or not torch.cuda.is_available():
        return asked
    name = torch.cuda.get_device_name()
    return next((float(value) for part, value in _PEAK.items() if part in name), None)
