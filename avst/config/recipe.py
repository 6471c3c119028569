"""What a recipe may say: every section, every default, every unit.

A field's metadata bounds a number: `least` (>=), `above` (>), `most` (<=). `path` marks what is looked for beside the
recipe first (see avst.config.loading).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from avst.bad_steps import BadStepBounds
from avst.config.yaml_file import Place
from avst.rollout_options import RolloutOptions
from avst.types import TASKS, Task

Tower = Literal["vision", "audio", "connector", "language"]


@dataclass(frozen=True)
class LoraRecipe:
    """Adapters by peft. target_modules: None for the text model's linear layers;  quantize_4bit: QLoRA."""

    r: int = field(default=16, metadata={"least": 1})
    alpha: int = field(default=32, metadata={"least": 1})
    dropout: float = field(default=0.0, metadata={"least": 0, "most": 1})
    target_modules: tuple[str, ...] | None = None
    quantize_4bit: bool = False


@dataclass(frozen=True)
class ModelRecipe:
    """path: a Hub name or a folder;  dtype "auto": as the checkpoint was saved;  revision: a Hub commit, tag or branch;
    freeze: the parts that do not learn; a tower with its connector frozen has its features computed once a clip, and
    with feature_cache kept on disk for later epochs and runs, at most feature_cache_gb gigabytes of them;
    allow_pickle: weights may come from .bin files, of which the tensors alone are read."""

    path: str = field(metadata={"path": True})
    dtype: Literal["float32", "bfloat16", "float16", "auto"] = "auto"
    attention: Literal["sdpa", "flash_attention_2", "eager"] = "sdpa"
    freeze: tuple[Tower, ...] = ()
    lora: LoraRecipe | None = None
    revision: str | None = None
    feature_cache: str | None = None
    feature_cache_gb: float = field(default=50.0, metadata={"above": 0})
    allow_pickle: bool = False


@dataclass(frozen=True)
class DataRecipe:
    """train, eval: annotation files in the R-AVST form;  videos: the folder of <video_name>.mp4;
    tasks: the questions taken;  max_questions: the first so many of each split, None for all;
    keep_in_memory: prompts stay in memory once made, for sets small enough (some MB a clip)."""

    train: tuple[str, ...] = field(default=(), metadata={"path": True})
    eval: tuple[str, ...] = field(default=(), metadata={"path": True})
    videos: str | None = field(default=None, metadata={"path": True})
    tasks: tuple[Task, ...] = TASKS
    max_questions: int | None = field(default=None, metadata={"least": 1})
    keep_in_memory: bool = False


@dataclass(frozen=True)
class MediaRecipe:
    """What the model is shown of a clip.

    fps: frames a second;  max_frames: at most so many, evenly spread;  min_pixels, max_pixels: of one frame;
    total_pixels: of one clip, counting a pair of frames once, so that visual tokens <= total_pixels / 28²;
    audio: give the sound to models that hear;  cache_dir: decoded clips, None for no cache, at most cache_gb gigabytes;
    deadline_s: seconds a clip may take to decode;  on_error: a bad file ends the run, or is skipped, counted and
    logged.
    """

    fps: float = field(default=2.0, metadata={"above": 0})
    max_frames: int | None = field(default=None, metadata={"least": 2})
    min_pixels: int | None = field(default=None, metadata={"least": 1})
    max_pixels: int | None = field(default=None, metadata={"least": 1})
    total_pixels: int | None = field(default=None, metadata={"least": 1})
    audio: bool = True
    cache_dir: str | None = None
    cache_gb: float = field(default=20.0, metadata={"above": 0})
    deadline_s: float = field(default=60.0, metadata={"above": 0})
    decoder: Literal["pyav", "decord", "torchcodec"] = "pyav"
    on_error: Literal["raise", "skip"] = "raise"


@dataclass(frozen=True)
class PromptRecipe:
    """max_text_tokens: of a prompt without its media, a longer one is refused;  system: None for Box 2 of the paper."""

    max_text_tokens: int = field(default=512, metadata={"least": 1})
    system: str | None = None


@dataclass(frozen=True)
class RewardRecipe:
    """use: `module:function` or `./file.py:function`;  weight: a number, or task -> number for the tasks it judges."""

    use: str
    weight: float | Mapping[Task, float] = 1.0


@dataclass(frozen=True)
class WordVectorsRecipe:
    """path: a word2vec file, None for the vectors in avst, "equal_names" for none;  tau: least similarity of a match,
    None for that of the vectors;  mapped: a binary file is mapped into memory, false: read whole by every process."""

    path: str | None = field(default=None, metadata={"path": True})
    tau: float | None = field(default=None, metadata={"least": -1, "most": 1})
    mapped: bool = True


@dataclass(frozen=True)
class EvalRecipe:
    """Greedy answers: batch_size prompts are decoded together;  max_questions: the first so many, None for all."""

    max_new_tokens: int = field(default=1024, metadata={"least": 1})
    batch_size: int = field(default=8, metadata={"least": 1})
    max_questions: int | None = field(default=None, metadata={"least": 1})
    splits: tuple[Literal["train", "eval"], ...] = ("eval",)


@dataclass(frozen=True)
class Recipe:
    """One experiment.

    license: what the model cards state, a name as the Hub has them (apache-2.0); None: unknown;
    rewards: name -> plug-in; a recipe that has this section says all of them, one that has not takes the paper's four;
    reward_errors: a failing reward ends the run, or abstains and is counted;  reward_deadline_s: seconds for a call;
    reward_process: rewards run in a child process, which is ended when one hangs;
    bad_steps: how many steps without an update (a loss or gradient that is not finite) end a run;
    grpo: options of TRL's GRPOConfig, sft: of transformers' TrainingArguments, with their names and meanings, so
    `per_device_train_batch_size` counts completions: one prompt a device with G = 6 is batch size 6, num_generations 6.
    places: dotted key -> where it was written, for messages; not part of the experiment.
    """

    name: str
    model: ModelRecipe
    seed: int = field(default=0, metadata={"least": 0, "most": 2**32 - 1})
    license: str | None = None
    output_dir: str = ""
    data: DataRecipe = field(default_factory=DataRecipe)
    media: MediaRecipe = field(default_factory=MediaRecipe)
    prompt: PromptRecipe = field(default_factory=PromptRecipe)
    rewards: Mapping[str, RewardRecipe] = field(default_factory=dict)
    word_vectors: WordVectorsRecipe = field(default_factory=WordVectorsRecipe)
    reward_errors: Literal["raise", "abstain"] = "raise"
    reward_deadline_s: float | None = field(default=None, metadata={"above": 0})
    reward_process: bool = False
    rollout: RolloutOptions = field(default_factory=RolloutOptions)
    bad_steps: BadStepBounds = field(default_factory=BadStepBounds)
    grpo: Mapping[str, Any] = field(default_factory=dict)
    sft: Mapping[str, Any] = field(default_factory=dict)
    eval: EvalRecipe = field(default_factory=EvalRecipe)
    places: Mapping[str, Place] = field(default_factory=dict, compare=False, repr=False)
