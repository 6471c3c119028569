"""Memory and time of one GRPO step on one device, before a run: by formula, or by measuring a forward and backward.

The formula counts what is certain exactly (weights, gradients, AdamW's two states, a reference copy) and activations
roughly: 17 numbers a token, layer and hidden unit (Korthikanti et al. 2022, eq. 2, without attention's, which is never
kept), or 1 with gradient checkpointing and one layer at a time. Fragmentation, the frozen towers' buffers and the
engine's own are not in it. So: right to about a tenth in the first four, to a factor of two in activations.
"""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any

import torch

from avst.config import Recipe
from avst.models.families import prompt_positions
from avst.models.packing import pack
from avst.preview.look import Look

NUMBERS_A_LAYER = 17


@dataclass(frozen=True, slots=True)
class Estimate:
    """Bytes, and floating-point operations of one micro-batch. tokens: of its packed row."""

    parameters: int
    trainable: int
    tokens: int
    weights: int
    gradients: int
    optimizer: int
    reference: int
    activations: int
    cache: int
    operations: float

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.optimizer + self.reference + max(self.activations, self.cache)

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "total": self.total}


def settings(recipe: Recipe) -> tuple[int, int, int]:
    """(G, prompts a micro-batch, C), with TRL's defaults where the recipe is silent."""
    said = recipe.grpo
    generations = int(said.get("num_generations", 8))
    prompts = max(1, int(said.get("per_device_train_batch_size", 8)) // generations)
    return generations, prompts, int(said.get("max_completion_length", 256))


def estimate(recipe: Recipe, model: Any, prompt_tokens: int) -> Estimate:
    """prompt_tokens: P of a typical prompt; every answer is taken to have max_completion_length tokens."""
    generations, prompts, longest = settings(recipe)
    text = model.config.get_text_config()
    width = torch.empty((), dtype=model.dtype).element_size()
    parameters = sum(p.numel() for p in model.parameters())
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    weights, trained_width = parameters * width, width
    if recipe.model.lora is not None:
        trainable, trained_width = _lora_parameters(model, recipe.model.lora.r), 4  # peft keeps adapters in float32
        weights = parameters // 2 if recipe.model.lora.quantize_4bit else weights
        weights += trainable * trained_width
    tokens = prompts * (prompt_tokens + generations * longest)
    a_layer = tokens * text.hidden_size * width
    on = recipe.grpo.get("gradient_checkpointing", True)
    activations = (
        a_layer * (text.num_hidden_layers + NUMBERS_A_LAYER)
        if on
        else a_layer * NUMBERS_A_LAYER * text.num_hidden_layers
    )
    head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    cache = 2 * text.num_hidden_layers * text.num_key_value_heads * head * tokens * width
    second_model = bool(recipe.grpo.get("beta", 0.0))
    speakers = sum(p.numel() for p in model.model.language_model.parameters())
    passes = 2 + 2 + 4 + (2 if on else 0) + (2 if second_model else 0)  # rollout, forward, backward, again, reference
    return Estimate(
        parameters,
        trainable,
        tokens,
        weights,
        trainable * trained_width,
        2 * trainable * trained_width,
        weights if second_model and recipe.model.lora is None else 0,
        activations,
        cache,
        float(passes) * speakers * tokens,
    )


def _lora_parameters(model: Any, rank: int) -> int:
    linear = [m for m in model.model.language_model.modules() if isinstance(m, torch.nn.Linear)]
    return sum(rank * (m.in_features + m.out_features) for m in linear)


def speed(seconds: float = 0.3) -> float:
    """Floating-point operations a second of this machine's matrix product: the GPU's in bfloat16, the CPU's in
    float32."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    n, dtype = (8192, torch.bfloat16) if device == "cuda" else (768, torch.float32)
    a = torch.ones(n, n, device=device, dtype=dtype)

    def product() -> None:
        torch.mm(a, a)
        if device == "cuda":
            torch.cuda.synchronize()

    product()
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        product()
        count += 1
    return 2.0 * n**3 * count / (time.perf_counter() - start)


def measure(recipe: Recipe, model: Any, look: Look) -> dict[str, float]:
    """One packed forward and backward of the question with G answers of C tokens: {"seconds", "peak_bytes"}.

    peak_bytes: the most that torch held on the GPU; on a CPU the process's own peak, libraries included.
    """
    generations, prompts, longest = settings(recipe)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device)
    ids = look.prompt.input_ids[-8:].tolist()  # text behind the media: which tokens does not matter for cost
    answers = [(ids * (longest // len(ids) + 1))[:longest]] * generations
    row = pack([look.prompt] * prompts, [answers] * prompts, [prompt_positions(model, look.prompt)] * prompts)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    model.train()
    if recipe.grpo.get("gradient_checkpointing", True):
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    start = time.perf_counter()
    model(packed=row.to(device), temperature=1.0)["logps"].mean().backward()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    seconds = time.perf_counter() - start
    model.zero_grad(set_to_none=True)
    return {"seconds": seconds, "peak_bytes": float(_peak(device))}


def _peak(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
