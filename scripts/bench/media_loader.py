"""Media and the data loader: what decoding costs a GRPO run, and the memory of the processes that decode.

Overlap. Seconds of an optimizer step, from the end of one to the end of the next, of a real GRPO run: a small
Qwen2.5-Omni of random weights, one prompt and six answers a step, rollout, reference, backward and AdamW, torch with
one thread. Every step takes another clip of 40 s at 2 frames a second with sound, nothing is cached. Three ways, run by
turns: clips decoded by the loader's workers as `avst train` sets it up, decoded in the training process (0 workers),
and all prompts made before (data.keep_in_memory). The first two steps of a run are not counted. The size of the model
is chosen so that a step takes longer than a worker needs for a clip, as on any model in real use: no loader can hide
more decoding than the second core has time for.

Memory. Peak resident memory (VmHWM) of the loader's workers and of the decoding processes behind them, after 10 clips
and after 100 more, with and without the cache. It counts mapped cache files too, while they are mapped.
"""

from __future__ import annotations

import gc
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from torch.utils.data import DataLoader
from transformers import AutoConfig, AutoProcessor, PrinterCallback, TrainerCallback
from trl import GRPOConfig

from avst.data import Kept, PromptDataset, Source, StepRows
from avst.hand_over import opened
from avst.media import MediaSettings
from avst.models.families import family_of
from avst.models.loading import load
from avst.models.tiny import make_tiny
from avst.plugins import RewardSpec
from avst.prompt import PromptBuilder, audio_clock_of
from avst.runs import set_loader
from avst.scoring import Scorer
from avst.trainer import GRPOTrainer
from avst.types import Answer, AnswerObject, Interval, Question
from avst.word_vectors import WordVectors
from scripts.bench.arm import Arm
from scripts.bench.figure import Figure
from scripts.bench.media_files import copies, write_film

GROUP = "media"
WARM = 2  # steps at the beginning of a run that are not counted
# name -> (data.keep_in_memory, what the recipe says of the loader)
ARMS: dict[str, tuple[bool, dict[str, Any]]] = {
    "decoded by workers": (False, {}),
    "decoded in the training process": (False, {"dataloader_num_workers": 0}),
    "preloaded": (True, {}),
}


@dataclass(frozen=True, slots=True)
class Sizes:
    """seconds: of a film;  max_pixels: of a frame;  steps: counted in a run;  clips: of the memory runs, after 10."""

    seconds: float = 40.0
    max_pixels: int = 112 * 84
    steps: int = 6
    rounds: int = 3
    hidden: int = 256
    layers: int = 6
    answer: int = 64
    memory_seconds: float = 10.0
    clips: int = 100


QUICK = Sizes(seconds=4.0, steps=2, rounds=1, hidden=64, layers=2, answer=8, memory_seconds=2.0, clips=10)


def figures(folder: Path, quick: bool) -> list[Figure]:
    sizes = QUICK if quick else Sizes()
    return overlap(folder, sizes) + memory(folder, sizes)


# ---- overlap ---------------------------------------------------------------------------------------------------------


def overlap(folder: Path, sizes: Sizes) -> list[Figure]:
    """Step time with media decoded on the fly over step time with prompts made before."""
    model = make_tiny(
        "qwen2_5_omni", folder / "omni", hidden=sizes.hidden, layers=sizes.layers, heads=8, kv_heads=2, vision_depth=4
    )
    film = write_film(folder / "clip.mp4", sizes.seconds)
    copies(film, folder / "train", WARM + sizes.steps)
    rows = questions_about(folder / "train", model, None, sizes.max_pixels)
    kept = Kept(rows)
    for i in range(len(kept)):
        kept[i]
    found: dict[str, list[float]] = {name: [] for name in ARMS}
    waits: dict[str, list[float]] = {name: [] for name in ARMS}
    for _ in range(sizes.rounds):
        for name, (in_memory, said) in ARMS.items():
            seconds, waited = training(model, kept if in_memory else rows, rows.builder, said, in_memory, sizes)
            found[name].append(median(seconds))
            waits[name].append(median(waited))
    how = {
        "median_step_of_each_run": found,
        "median_wait_for_data_of_each_run": waits,
        "sizes": asdict(sizes),
        "torch_threads": 1,
        "warm_up_steps": WARM,
    }
    base = found["preloaded"]
    ratios = {name: median(a / b for a, b in zip(found[name], base, strict=True)) for name in ARMS}
    return [
        Figure(GROUP, "GRPO step, prompts preloaded", median(base), "s", how=how),
        Figure(GROUP, "step with media / preloaded", ratios["decoded by workers"], "x", "<= 1.05", how),
        Figure(GROUP, "the same without workers", ratios["decoded in the training process"], "x", how=how),
    ]


def training(
    model: Path, rows: Any, builder: PromptBuilder, said: dict[str, Any], in_memory: bool, sizes: Sizes
) -> tuple[list[float], list[float]]:
    """A run: seconds of its steps, and what each waited for data, without the first."""
    policy, _, _ = load(model, dtype="float32")
    clock = _Clock()
    with tempfile.TemporaryDirectory() as out:
        args = GRPOConfig(
            output_dir=out, report_to="none", use_cpu=True, bf16=False, save_strategy="no", logging_steps=1,
            gradient_checkpointing=False, per_device_train_batch_size=6, num_generations=6, beta=0.04,
            max_completion_length=sizes.answer, max_steps=WARM + sizes.steps, disable_tqdm=True,
            dataloader_pin_memory=False, shuffle_dataset=False, **said,
        )  # fmt: skip
        set_loader(args, said, in_memory)
        scorer = Scorer([RewardSpec("ids", _ids, 1.0)], WordVectors.load(None))
        trainer = GRPOTrainer(policy, scorer, args, rows, builder, callbacks=[clock])
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        waits = [line["seconds/data"] for line in trainer.state.log_history if "seconds/data" in line]
    del trainer, policy
    gc.collect()  # and the loader's workers end with it
    return clock.seconds()[WARM - 1 :], waits[WARM:]


class _Clock(TrainerCallback):
    """When each optimizer step ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.ends.append(time.perf_counter())

    def seconds(self) -> list[float]:
        return [b - a for a, b in zip(self.ends, self.ends[1:], strict=False)]


def _ids(prompts: Any, completions: Any, completion_ids: Sequence[Sequence[int]], **columns: Any) -> list[float]:
    return [sum(ids) % 7 / 6 for ids in completion_ids]


def questions_about(videos: Path, model: Path, cache_dir: Path | None, max_pixels: int) -> PromptDataset:
    """One question about each film of a folder."""
    config = AutoConfig.from_pretrained(model)
    builder = PromptBuilder(AutoProcessor.from_pretrained(model), family_of(config), audio_clock=audio_clock_of(config))
    gold = Answer((AnswerObject("dog", (Interval(1.0, 3.0),)),), tags=frozenset({"object", "when"}))
    questions = [
        Question(path.stem, "temporal", "When does the dog sound?", path.name, 40.0, gold, "<answer>…</answer>")
        for path in sorted(videos.glob("*.mp4"))
    ]
    return PromptDataset(
        questions,
        builder,
        Source(videos, MediaSettings(cache_dir=cache_dir), {"max_pixels": max_pixels, "min_pixels": 3136}),
    )


# ---- memory ----------------------------------------------------------------------------------------------------------


def memory(folder: Path, sizes: Sizes) -> list[Figure]:
    """Peak memory of the loader's workers and decoders after 10 clips, and how much it has grown many clips later."""
    model = folder / "omni"
    copies(write_film(folder / "short.mp4", sizes.memory_seconds), folder / "many", 10 + sizes.clips)
    places = {"folder": str(folder), "model": str(model), "cache": str(folder / "memory_cache")}
    with Arm("scripts.bench.media_loader:loading", max_pixels=sizes.max_pixels, **places) as arm:
        peaks = arm.run()["peaks"]
    figures = []
    for name, each in peaks.items():
        early, late = (sum(each[when].values()) for when in ("early", "late"))
        how = {"peak_mb": each, "clips": [10, 10 + sizes.clips], "sizes": asdict(sizes)}
        figures.append(Figure(GROUP, f"loader's memory, {name}: grown since clip 10", late / early, "x", "<= 1.1", how))
    return figures


def loading(folder: str, model: str, cache: str, max_pixels: int) -> Callable[[], Mapping[str, Any]]:
    """An arm: reads every film through two workers, decoding and then from the cache; peaks in MB by process."""
    videos = Path(folder) / "many"
    plain = questions_about(videos, Path(model), None, max_pixels)
    kept = questions_about(videos, Path(model), Path(cache), max_pixels)

    def once() -> Mapping[str, Any]:
        decoding = _read_all(plain)
        _read_all(kept)  # writes the cache
        return {"peaks": {"decoding": decoding, "reading the cache": _read_all(kept)}}

    return once


def _read_all(rows: PromptDataset) -> dict[str, dict[str, float]]:
    """Peaks after 10 clips ("early") and after all ("late")."""
    asked = [(i, 0) for i in range(len(rows))]
    loader = DataLoader(StepRows(rows), 1, sampler=asked, num_workers=2, collate_fn=list, prefetch_factor=1)
    batches: Any = iter(loader)
    peaks = {}
    for n, batch in enumerate(batches, start=1):
        opened(batch)
        if n in (10, len(rows) - 2):  # at the end the workers leave
            peaks["early" if n == 10 else "late"] = _peaks_mb([worker.pid for worker in batches._workers])
    return peaks


def _peaks_mb(workers: Sequence[int]) -> dict[str, float]:
    """VmHWM of the loader's workers and of their children, by role and number."""
    found = {}
    for i, pid in enumerate(workers):
        found[f"loader {i}"] = _peak_mb(pid)
        for j, child in enumerate(_children(pid)):
            found[f"decoder {i}.{j}"] = _peak_mb(child)
    return found


def _peak_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1e3


def _children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        found += [int(child) for child in task.read_text().split()]
    return sorted(found)
