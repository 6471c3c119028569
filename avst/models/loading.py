"""Models and processors by name or path: family, dtype, attention, frozen towers, LoRA and QLoRA."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from transformers import AutoConfig, AutoProcessor, BitsAndBytesConfig, PreTrainedModel, ProcessorMixin
from transformers.utils.logging import disable_progress_bar

from avst.errors import AvstError
from avst.models.families import Family, family_of, model_class, towers
from avst.models.packaged import packaged
from avst.models.policy import understand_groups
from avst.models.trust import DAMAGED, adapter_base, refuse_pickles, refuse_shards_elsewhere, why

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}


def load(
    path: str | Path,
    *,
    dtype: str = "bfloat16",
    attention: str = "sdpa",
    freeze: Sequence[str] = (),
    quantize_4bit: bool = False,
    revision: str | None = None,
    allow_pickle: bool = False,
) -> tuple[PreTrainedModel | PeftModel, ProcessorMixin, Family]:
    """(model, processor, family) of a checkpoint folder, a hub name or a packaged one (avst.models.packaged); a folder
    with adapters alone loads its base too.

    dtype: of the weights, or "auto" for the checkpoint's;  attention: sdpa, eager or flash_attention_2;
    freeze: towers by name (avst.models.families.towers);  quantize_4bit: QLoRA's NF4 base, needs bitsandbytes and a
    GPU;  allow_pickle: weights may come from .bin files (avst.models.trust). Omni checkpoints load their thinker alone:
    the talker speaks, which no answer needs.
    """
    disable_progress_bar()  # a bar a shard, while avst says what it does itself
    path = packaged(path)
    adapters = Path(path) / "adapter_config.json"
    base = adapter_base(adapters) if adapters.is_file() else str(path)
    for folder in {str(path), base}:
        refuse_pickles(folder, allow_pickle)
        refuse_shards_elsewhere(folder)
    revision = revision if base == str(path) else None  # it names a commit of `path`, not of an adapter's base
    config = load_config(base, revision)
    options: dict[str, Any] = {
        "dtype": DTYPES.get(dtype, dtype),
        "attn_implementation": attention,
        "revision": revision,
        "trust_remote_code": False,
        "use_safetensors": None if allow_pickle else True,
    }
    if quantize_4bit:
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_compute_dtype=torch.bfloat16,
            llm_int8_skip_modules=["visual", "audio_tower", "lm_head"],
        )
    try:
        model = model_class(config).from_pretrained(base, **options)
    except DAMAGED as error:
        raise AvstError(f"model.path {base}: its weights cannot be read: {why(error)}") from error
    understand_groups(model, attention)
    freeze_towers(model, freeze)
    processor = load_processor(base, revision)
    if adapters.is_file():
        # peft's default would freeze them: a run that goes on from adapters would then train nothing, and not say so
        try:
            return PeftModel.from_pretrained(model, str(path), is_trainable=True), processor, family_of(config)
        except (*DAMAGED, ValueError, RuntimeError, TypeError) as error:
            raise AvstError(f"model.path {path}: its adapters cannot be read: {why(error)}") from error
    return model, processor, family_of(config)


def load_sketch(
    path: str | Path, *, dtype: str = "auto", freeze: Sequence[str] = (), revision: str | None = None
) -> tuple[PreTrainedModel, ProcessorMixin, Family]:
    """As `load`, with a model that has shapes and no weights (on torch's meta device): for prompts and for counting."""
    path = packaged(path)
    adapters = Path(path) / "adapter_config.json"
    base = adapter_base(adapters) if adapters.is_file() else str(path)
    revision = revision if base == str(path) else None
    config = load_config(base, revision)
    return sketch_of(config, dtype, freeze), load_processor(base, revision), family_of(config)


def sketch_of(config: Any, dtype: str = "auto", freeze: Sequence[str] = ()) -> PreTrainedModel:
    """The model of a config without weights (on torch's meta device), of an Omni the thinker."""
    wanted = DTYPES.get(dtype) or getattr(config, "dtype", None) or torch.float32
    thinker = getattr(config, "thinker_config", config)  # an Omni checkpoint's config holds the talker's too
    with torch.device("meta"):
        # what a config says of its attention may name code to be fetched
        model = model_class(config)._from_config(thinker, dtype=wanted, attn_implementation="sdpa")
    model.tie_weights()
    freeze_towers(model, freeze)
    return model


def restore_weights(model: PreTrainedModel, checkpoint: str | Path) -> None:
    """Put a checkpoint's weights into `model`, every one of them.

    The Trainer's own loading knows only the names in the file, which differ from the model's for the Omni thinker, and
    passes over what it does not find: a resumed run would go on from the weights it started with.
    """
    saved = model_class(model.config).from_pretrained(
        checkpoint, dtype=model.dtype, trust_remote_code=False, use_safetensors=True
    )
    model.load_state_dict(saved.state_dict())


def freeze_towers(model: PreTrainedModel, names: Sequence[str]) -> None:
    """Switch the gradient off for the named towers; AvstError for a tower that this model does not have."""
    parts = towers(model)
    for name in names:
        if not parts.get(name):
            raise AvstError(f"model.freeze: no tower {name!r} in {type(model).__name__}; one of {', '.join(parts)}")
        for module in parts[name]:
            module.requires_grad_(False)


def lora_config(
    model: PreTrainedModel,
    r: int = 16,
    alpha: int = 32,
    dropout: float = 0.0,
    target_modules: Sequence[str] | None = None,
) -> LoraConfig:
    """LoRA on the language model's linear layers (towers and head stay as they are), or on `target_modules`."""
    names = list(target_modules or []) or [
        name
        for name, module in model.named_modules()
        if ".language_model." in name and isinstance(module, torch.nn.Linear)
    ]
    return LoraConfig(r=r, lora_alpha=alpha, lora_dropout=dropout, target_modules=names, bias="none")


def load_config(path: str, revision: str | None) -> Any:
    """A checkpoint's config, of a family that avst knows. Raises AvstError."""
    if not Path(path).is_dir() and (
        path.count("/") != 1 or path.startswith((".", "~", "/")) or Path(path).parent.is_dir()
    ):
        # not OWNER/NAME: asked for it, the Hub would be tried for half a minute
        raise AvstError(f"model.path {path}: no checkpoint there (no such folder)")
    try:
        config = AutoConfig.from_pretrained(path, revision=revision, trust_remote_code=False)
    except (OSError, ValueError, RecursionError) as error:
        raise AvstError(f"model.path {path}: no checkpoint there ({str(error).splitlines()[0]})") from error
    family_of(config)
    return config


def load_processor(base: str, revision: str | None) -> ProcessorMixin:
    try:
        return AutoProcessor.from_pretrained(base, revision=revision, trust_remote_code=False)
    except (OSError, ValueError, RecursionError) as error:
        raise AvstError(f"model.path {base}: no processor there ({str(error).splitlines()[0]})") from error
