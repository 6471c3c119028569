"""What a recipe names: is it there, and can it be used here?"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from avst.config import Recipe, grpo_config, sft_config
from avst.doctor.check import Check
from avst.doctor.machine import GB, disk
from avst.doctor.packages import EXTRAS, version
from avst.errors import AvstError
from avst.models.packaged import packaged

SECTION = "recipe"
LOGGERS = ("trackio", "wandb")


def check_recipe(recipe: Recipe) -> list[Check]:
    """Paths, model files, data, rewards, and the settings that decide how much memory a step takes."""
    return [
        *_model(recipe),
        *_data(recipe, "train"),
        *_data(recipe, "eval"),
        *_rewards(recipe),
        *_options(recipe),
        disk("output_dir", recipe.output_dir),
        Check(SECTION, "memory settings", "ok", memory_settings(recipe)),
    ]


def _bad(name: str, found: str, mend: str = "") -> Check:
    return Check(SECTION, name, "broken", " ".join(found.split()), mend)


def _model(recipe: Recipe) -> Iterator[Check]:
    path = Path(packaged(recipe.model.path))
    name = "model.path"
    if not path.is_dir():
        yield _hub_model(recipe)
        return
    adapters = (path / "adapter_config.json").is_file()
    files = sorted([*path.glob("*.safetensors"), *path.glob("*.bin")])
    wanted = ["adapter_config.json"] if adapters else ["config.json", "tokenizer_config.json"]
    absent = [file for file in wanted if not (path / file).is_file()]
    if absent or not files:
        what = absent[0] if absent else "*.safetensors"
        yield _bad(name, f"{path}: no {what} in this folder", "name the folder that holds it, such as <run>/final")
        return
    size = sum(file.stat().st_size for file in files)
    kind = "adapters" if adapters else "weights"
    yield Check(SECTION, name, "ok", f"{path}: {size / GB:.3g} GB of {kind} in {len(files)} file(s)")


def _hub_model(recipe: Recipe) -> Check:
    name, path = "model.path", recipe.model.path
    looks_like_a_folder = path.startswith((".", "/", "~")) or path.count("/") != 1
    if looks_like_a_folder:
        mend = "make it (avst quickstart makes runs/quickstart), or model.path=…"
        return _bad(name, f"{path}: no such folder", mend)
    from huggingface_hub import try_to_load_from_cache

    if isinstance(try_to_load_from_cache(path, "config.json", revision=recipe.model.revision), str):
        return Check(SECTION, name, "ok", f"{path}: in the Hub's cache")
    mend = f"hf download {path}"
    if os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0"):
        return _bad(name, f"{path}: neither a folder nor in the Hub's cache, and HF_HUB_OFFLINE is set", mend)
    return Check(SECTION, name, "warning", f"{path}: no folder; will be downloaded from the Hub", mend)


def _data(recipe: Recipe, split: str) -> Iterator[Check]:
    from avst.media import video_path
    from avst.tasks.r_avst import load_annotations

    name = f"data.{split}"
    files = getattr(recipe.data, split)
    if not files:
        yield Check(SECTION, name, "absent", "no annotation file is named", f"{name}=FILE")
        return
    try:
        questions = [q for file in files for q in load_annotations(file) if q.task in recipe.data.tasks]
    except AvstError as error:
        yield _bad(name, str(error), f"avst validate {' '.join(files)}")
        return
    videos = {question.video for question in questions}
    said = f"{len(questions)} questions about {len(videos)} videos"
    yield Check(SECTION, name, "ok" if questions else "broken", said, "" if questions else "data.tasks=…")
    folder = recipe.data.videos
    if folder is None or not Path(folder).is_dir():
        yield _bad(f"videos of {split}", f"data.videos: {folder}: no such folder", "data.videos=DIR")
        return
    absent = [video for video in videos if not _is_there(video_path, folder, video)]
    where = f"videos of {split}"
    if absent:
        found = f"{len(absent)} of {len(videos)} are not in {folder}, such as {min(absent)}"
        state: Any = "warning" if recipe.media.on_error == "skip" and len(absent) < len(videos) else "broken"
        mend = f"avst validate {' '.join(files)} --videos {folder}"
        yield Check(SECTION, where, state, found, mend)
    else:
        yield Check(SECTION, where, "ok", f"all in {folder} (not opened: avst validate opens them)")


def _is_there(video_path: Any, folder: str, video: str) -> bool:
    try:
        return bool(video_path(Path(folder), video).is_file())
    except AvstError:
        return False


def _rewards(recipe: Recipe) -> Iterator[Check]:
    from avst.plugins import load_specs

    try:
        specs = load_specs({name: {"use": r.use, "weight": r.weight} for name, r in recipe.rewards.items()})
        yield Check(SECTION, "rewards", "ok", ", ".join(spec.name for spec in specs))
    except AvstError as error:
        yield _bad("rewards", str(error), "mend the function, or its `use` in the recipe")


def check_word_vectors(recipe: Recipe | None) -> Check:
    """Those that the object reward would use."""
    section = SECTION if recipe is not None else "packages"
    path = recipe.word_vectors.path if recipe is not None else None
    tau = recipe.word_vectors.tau if recipe is not None else None
    try:
        from avst.word_vectors import WordVectors

        words = WordVectors.load(path, tau)
    except AvstError as error:
        return Check(section, "word vectors", "broken", str(error), "word_vectors.path=FILE, or null")
    except Exception as error:  # numpy or gensim are broken: said as such among the packages too
        return Check(section, "word vectors", "broken", f"{type(error).__name__}: {error}", "see packages")
    if words.source is None:
        return Check(section, "word vectors", "warning", "none: names match only when equal", "word_vectors.path=FILE")
    found = f"{words.source.name}, {words.source.dimensions} dimensions, tau {words.tau:g}"
    return Check(section, "word vectors", "ok", found)


def _options(recipe: Recipe) -> Iterator[Check]:
    """What the libraries' own classes say of the grpo and sft sections, here."""
    for section, make in (("grpo", grpo_config), ("sft", sft_config)):
        try:
            make(recipe)
            yield Check(SECTION, section, "ok", f"{len(getattr(recipe, section))} options, all known")
        except AvstError as error:
            mend = (
                f"{section}.bf16=false {section}.use_cpu=true on a machine without a GPU"
                if "bf16" in str(error)
                else ""
            )
            yield _bad(section, str(error), mend)
        except Exception as error:
            yield _bad(section, f"{type(error).__name__}: {error}", "see packages")
    said = {name for s in (recipe.grpo, recipe.sft) for name in _listed(s.get("report_to"))}
    for logger in LOGGERS:
        if logger in said and version(logger) is None:
            yield _bad("report_to", f"{logger} is not installed", f"pip install -e '.[{EXTRAS[logger][0]}]'")
    if recipe.model.attention == "flash_attention_2" and version("flash-attn") is None:
        yield _bad("model.attention", "flash_attention_2, but flash-attn is not installed", "model.attention=sdpa")
    if recipe.model.lora is not None and recipe.model.lora.quantize_4bit and version("bitsandbytes") is None:
        yield _bad("model.lora.quantize_4bit", "bitsandbytes is not installed", "pip install -e '.[qlora]'")


def _listed(said: Any) -> list[str]:
    return [str(item) for item in said] if isinstance(said, list | tuple) else [str(said)]


def memory_settings(recipe: Recipe) -> str:
    """Example: "dtype bfloat16, frozen vision, G 6, batch 6, completions to 1024, checkpointing on"."""
    model, grpo = recipe.model, recipe.grpo
    parts = [f"dtype {model.dtype}", f"frozen {'+'.join(model.freeze) or 'nothing'}"]
    if model.lora is not None:
        parts.append(f"LoRA r {model.lora.r}" + (" on 4 bits" if model.lora.quantize_4bit else ""))
    if recipe.media.total_pixels:
        parts.append(f"at most {recipe.media.total_pixels // 28**2} visual tokens")
    for key, words in (
        ("num_generations", "G"),
        ("per_device_train_batch_size", "batch"),
        ("max_completion_length", "completions to"),
    ):
        parts.append(f"{words} {grpo[key]}" if key in grpo else f"{words} TRL's default")
    parts.append(f"checkpointing {'off' if grpo.get('gradient_checkpointing') is False else 'on'}")
    parts.append(f"reference model {'none (beta 0)' if not grpo.get('beta', 0.0) else 'yes'}")
    return ", ".join(parts)
