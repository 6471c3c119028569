"""Frozen towers: what a clip's features cost when the tower makes them and when the feature store has them.

Seconds, by turns, of one prompt's video features (avst.models.features): the tower alone, without a store; the store
with the features on disk and nothing in memory (hashing the media tensors, reading, checking the checksum); and of that
the hashing. The file is in the page cache. The tower has a quarter of Qwen2.5-VL-7B's width and depth (hidden 320, 8
blocks, features of 896) in float32; a clip of 40 s at 2 fps is 3,080 visual tokens. Hashing does not grow with the
tower, so on a larger tower the ratio is larger, and on a fast GPU smaller.

Counts, over a GRPO run of two epochs with rollout, reference and two updates a rollout: tower calls a clip, and the hit
rate of the second epoch. They do not depend on sizes, so a tiny model gives them: 3 clips with 2 questions each, every
prompt made anew whenever the data loader asks. Not counted: the start-up check, which runs the plain forward once a run
on purpose.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import AutoProcessor, TrainerCallback
from trl import GRPOConfig

from avst.models.families import unwrapped
from avst.models.feature_key import THREADS, content_digest, feature_key
from avst.models.feature_store import FeatureStats, FeatureStore
from avst.models.features import media_features
from avst.models.loading import load
from avst.models.tiny import make_tiny
from avst.plugins import RewardSpec
from avst.prompt import PromptBuilder
from avst.scoring import Scorer
from avst.trainer import GRPOTrainer
from avst.types import Answer, AnswerObject, Clip, Interval, Prompt, Question
from avst.word_vectors import WordVectors
from scripts.bench.figure import Figure
from scripts.bench.timing import by_turns, medians, ratio

GROUP = "features"
FROZEN = ("vision", "connector")


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of the tower and its clip. hidden: of the features;  frame: (width, height) in px."""

    hidden: int = 896
    heads: int = 14
    kv_heads: int = 2
    vision_hidden: int = 320
    vision_depth: int = 8
    seconds: float = 40.0
    fps: float = 2.0
    frame: tuple[int, int] = (308, 196)
    repeats: int = 7


QUICK = Sizes(hidden=128, heads=4, vision_hidden=64, vision_depth=2, seconds=10.0, repeats=2)


def run(quick: bool) -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        return timings(QUICK if quick else Sizes(), Path(folder)) + counts(Path(folder))


def timings(sizes: Sizes, folder: Path) -> list[Figure]:
    """The tower against the store, and what hashing costs. RuntimeError where the store gives other features."""
    names = ("hidden", "heads", "kv_heads", "vision_hidden", "vision_depth")
    shape: dict[str, Any] = {name: getattr(sizes, name) for name in names}
    model, builder = _model(make_tiny("qwen2_5_vl", folder / "shape", layers=1, **shape))
    prompt = builder.build(_question(0, 0), _clip(0, sizes.seconds, sizes.fps, sizes.frame))
    media = {name: prompt.media[name] for name in ("pixel_values_videos", "video_grid_thw")}
    store = FeatureStore(folder / "timed", 10**10)

    def tower() -> torch.Tensor:
        model.feature_store = None
        return media_features(model, replace(prompt, features={}), "video")

    def disk() -> torch.Tensor:
        model.feature_store = store
        return media_features(model, replace(prompt, features={}), "video")

    def hashing() -> object:
        return feature_key(model, model.model.visual, "video", media)

    disk()  # computed and written; the weights are hashed
    if not torch.equal(tower(), disk()):
        raise RuntimeError("the store gives other features than the tower")
    before = store.stats()
    seconds = by_turns({"tower": tower, "disk": disk, "hashing": hashing}, sizes.repeats)
    assert (store.stats() - before).disk == sizes.repeats + 1  # and the warm-up; nothing was held in memory
    features, middle = tower(), medians(seconds)
    n_bytes = sum(tensor.nbytes for tensor in media.values())
    how = {
        "seconds": seconds,
        "medians": middle,
        "sizes": {name: getattr(sizes, name) for name in Sizes.__slots__},
        "visual_tokens": len(features),
        "media_mb": n_bytes / 1e6,
        "features_mb": features.nbytes / 1e6,
        "dtype": str(features.dtype),
        "threads": {"torch": torch.get_num_threads(), "hashing": THREADS},
        "hashing_gb_per_s": n_bytes / 1e9 / middle["hashing"],
    }
    return [
        Figure(GROUP, f"tower, a clip of {len(features):,} visual tokens", middle["tower"], "s", how=how),
        Figure(GROUP, "the same from disk, hashing included", middle["disk"], "s", how=how),
        Figure(GROUP, "hashing alone", middle["hashing"], "s", how=how),
        Figure(GROUP, "disk against tower", ratio(seconds, "tower", "disk"), "x", how=how),
        Figure(GROUP, "weights hashed, once a process", _weights_seconds(model), "s", how=how),
    ]


def _weights_seconds(model: Any) -> float:
    """Seconds of reading all weights of the tower, as its digest does the first time."""
    weights = list(model.model.visual.named_parameters())
    return medians(by_turns({"weights": lambda: content_digest(weights)}, 3))["weights"]


def counts(folder: Path, clips: int = 3, questions: int = 2) -> list[Figure]:
    """Tower calls a clip over two epochs of GRPO, and the second epoch's hit rate."""
    model, builder = _model(
        make_tiny("qwen2_5_vl", folder / "tiny", hidden=32, layers=1, heads=2, kv_heads=1, vision_hidden=16)
    )
    model.feature_store = store = FeatureStore(folder / "counted", 10**9)
    rows = _Rows([_question(i, j) for j in range(questions) for i in range(clips)], builder)
    epochs = _Epochs(store)
    args = GRPOConfig(
        output_dir=str(folder / "run"), report_to="none", use_cpu=True, bf16=False, save_strategy="no",
        gradient_checkpointing=False, per_device_train_batch_size=2, num_generations=2, max_completion_length=4,
        num_iterations=2, beta=0.04, num_train_epochs=2, disable_tqdm=True, logging_strategy="no",
        dataloader_pin_memory=False,
    )  # fmt: skip
    scorer = Scorer([RewardSpec("length", _length, 1.0)], WordVectors.load(None))
    trainer = GRPOTrainer(model, scorer, args, rows, builder, callbacks=[epochs])
    trainer._paths_checked = True  # see above
    calls: list[str] = []
    reference = unwrapped(trainer.reference.model)  # type: ignore[union-attr, arg-type]
    for name, bare in (("policy", unwrapped(trainer.model)), ("reference", reference)):
        bare.model.visual.register_forward_hook(lambda *_, name=name: calls.append(name))
    trainer.train()
    _, second = epochs.each()
    how = {
        "clips": clips,
        "questions_a_clip": questions,
        "epochs": len(epochs.each()),
        "prompts_made": rows.made,
        "tower_calls": calls,
        "second_epoch": {"memory": second.memory, "disk": second.disk, "computed": second.computed},
    }
    rate = second.hits / (second.hits + second.computed)
    return [
        Figure(GROUP, "tower calls a clip, 2 epochs", len(calls) / clips, target="<= 1", how=how),
        Figure(GROUP, "hit rate of the second epoch", rate, target=">= 1", how=how),
    ]


class _Epochs(TrainerCallback):
    """What the store had done at the end of each epoch."""

    def __init__(self, store: FeatureStore) -> None:
        self.store, self.ends = store, [store.stats()]

    def on_epoch_end(self, *_: Any, **__: Any) -> None:
        self.ends.append(self.store.stats())

    def each(self) -> list[FeatureStats]:
        return [after - before for before, after in zip(self.ends, self.ends[1:], strict=False)]


class _Rows(Dataset[Prompt]):
    """Questions as prompts, made anew whenever asked for; `made` counts them."""

    def __init__(self, questions: Sequence[Question], builder: PromptBuilder) -> None:
        self.questions, self.builder, self.made = questions, builder, 0

    def __len__(self) -> int:
        return len(self.questions)

    def __getitem__(self, index: int) -> Prompt:
        self.made += 1
        question = self.questions[index]
        return self.builder.build(question, _clip(int(question.video), 2.0, 2.0, (84, 56)))


def _model(path: Path) -> tuple[Any, PromptBuilder]:
    model, _, family = load(path, dtype="float32", freeze=FROZEN)
    return model.eval(), PromptBuilder(AutoProcessor.from_pretrained(path), family)


def _question(clip: int, number: int) -> Question:
    gold = Answer((AnswerObject("dog", (Interval(1.0, 3.0),)),), tags=frozenset({"object", "when"}))
    text = f"When does dog {number} sound?"
    return Question(f"{clip}/0/temporal/{number}", "temporal", text, str(clip), 4.0, gold, "<answer>…</answer>")


def _clip(seed: int, seconds: float, fps: float, frame: tuple[int, int]) -> Clip:
    random, count = np.random.default_rng(seed), round(seconds * fps)
    frames = random.integers(0, 256, (count, frame[1], frame[0], 3), dtype=np.uint8)
    return Clip(frames, np.arange(count) / fps, fps, frame, seconds, None, 16000)


def _length(prompts: Any, completions: Any, completion_ids: Sequence[Sequence[int]], **columns: Any) -> list[float]:
    return [sum(ids) % 7 / 6 for ids in completion_ids]
