"""TRL's own GRPOTrainer on a tiny text model, as the reference that avst must equal. Offline, float64, on the CPU.

`make_text_model(folder)` gives model and tokenizer; `make_trl_trainer(...)` a real `trl.GRPOTrainer` on them;
`trl_inputs(...)` the padded batch that its `_compute_loss` reads; `flat_logps(...)` the same log-probs laid end to end,
from one unpadded forward a completion.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import trl
from datasets import Dataset
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from torch import Tensor
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

WORDS = tuple(f"w{i}" for i in range(47))
CHAT_TEMPLATE = "{% for m in messages %}{{ m['role'][0] }}: {{ m['content'] }} {% endfor %}"


def make_text_model(folder: Path, seed: int = 0) -> tuple[Qwen2ForCausalLM, PreTrainedTokenizerFast]:
    """A 2-layer Qwen2 in float64 and a word-level tokenizer of 50 words; both also saved in `folder`.

    The model's `name_or_path` is the folder, so that a trainer which needs a reference model finds one.
    """
    vocabulary = {word: i for i, word in enumerate(("<pad>", "<eos>", "<unk>", *WORDS))}
    words = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", padding_side="left"
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    config = Qwen2Config(
        vocab_size=len(vocabulary),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=256,
        tie_word_embeddings=False,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
    )
    torch.manual_seed(seed)
    model = Qwen2ForCausalLM(config).double()
    with torch.no_grad():
        # The library's initialisation (std 0.02) gives nearly equal log-probs; a livelier model tests more.
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Qwen2ForCausalLM.from_pretrained(folder, dtype=torch.float64), tokenizer


class ExactTRLTrainer(trl.GRPOTrainer):
    """TRL's trainer with its log-probs in float64: its fused head works in float32 whatever the model's dtype.

    Positions are counted from the first real token: TRL counts the left padding too, which shifts the rotary angles,
    and that is no matter but for their rounding (float32 in every model). `_compute_loss` and all the rest is TRL's.
    """

    def _get_per_token_logps_and_entropies(
        self, model: Any, input_ids: Tensor, attention_mask: Tensor, logits_to_keep: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor, None]:
        positions = (attention_mask.cumsum(-1) - 1).clamp(min=0)
        output = model(input_ids=input_ids, attention_mask=attention_mask, position_ids=positions)
        logits = output.logits[:, :-1][:, -logits_to_keep:]
        logps = (logits / self.temperature).log_softmax(-1)
        keep = attention_mask[:, -logits_to_keep:].bool()
        chosen = logps.gather(-1, input_ids[:, -logits_to_keep:].unsqueeze(-1)).squeeze(-1)
        entropies = -(logps.exp() * logps).sum(-1)
        return chosen.masked_fill(~keep, 0), entropies.masked_fill(~keep, 0), None


def make_trl_trainer(
    model: Qwen2ForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    folder: Path,
    *,
    trainer_class: type[trl.GRPOTrainer] = ExactTRLTrainer,
    reward: Any = None,
    prompts: Sequence[str] = ("w1 w2 w3", "w4 w5"),
    **options: Any,
) -> trl.GRPOTrainer:
    """A GRPOTrainer on the CPU that reports to nobody; `options` are GRPOConfig's."""
    defaults: dict[str, Any] = {
        "output_dir": str(folder / "out"),
        "report_to": "none",
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "per_device_train_batch_size": 4,
        "num_generations": 4,
        "max_completion_length": 16,
        "save_strategy": "no",
        "disable_tqdm": True,
    }
    return trainer_class(
        model=model,
        reward_funcs=reward or (lambda completions, **_: [float(len(c)) for c in completions]),
        args=trl.GRPOConfig(**(defaults | options)),
        train_dataset=Dataset.from_list([{"prompt": p} for p in prompts]),
        processing_class=tokenizer,
    )


def _padded(rows: Sequence[Sequence[float]], side: str, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Rows padded with 0 to one length, and the mask (1 where a row has a value); both (B, longest)."""
    longest = max(1, *(len(row) for row in rows))
    values, mask = torch.zeros(len(rows), longest, dtype=dtype), torch.zeros(len(rows), longest, dtype=torch.long)
    for i, row in enumerate(rows):
        where = slice(longest - len(row), longest) if side == "left" else slice(0, len(row))
        values[i, where] = torch.as_tensor(row, dtype=dtype)
        mask[i, where] = 1
    return values, mask


def trl_inputs(
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Sequence[int]],
    advantages: Tensor,
    *,
    old_logps: Sequence[Sequence[float]] | None = None,
    ref_logps: Sequence[Sequence[float]] | None = None,
    truncated: Sequence[bool] | None = None,
    num_items_in_batch: int | None = None,
) -> dict[str, Tensor]:
    """The batch of `_compute_loss`, as `_generate_and_score_completions` makes it: prompts padded left, answers right.

    num_items_in_batch: tokens of the whole generation batch; those of this batch where it is not given.
    """
    prompt_ids, prompt_mask = _padded(prompts, "left", torch.long)
    completion_ids, completion_mask = _padded(completions, "right", torch.long)
    if truncated is not None:
        completion_mask = completion_mask * (~torch.tensor(truncated)).unsqueeze(1).int()
    items = completion_mask.sum() if num_items_in_batch is None else torch.tensor(num_items_in_batch)
    inputs = {
        "prompt_ids": prompt_ids,
        "prompt_mask": prompt_mask,
        "completion_ids": completion_ids,
        "completion_mask": completion_mask,
        "advantages": advantages,
        "num_items_in_batch": items,
    }
    for name, rows in (("old_per_token_logps", old_logps), ("ref_per_token_logps", ref_logps)):
        if rows is not None:
            inputs[name] = _padded(rows, "right", torch.float64)[0]
    return inputs


def flat_logps(
    model: Qwen2ForCausalLM,
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Sequence[int]],
    temperature: float = 1.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probs and entropies (ΣC,) with gradient, and the completion that each token belongs to (ΣC,)."""
    logps, entropies, index = [], [], []
    for i, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
        ids = torch.tensor([*prompt, *completion])
        logits = model(input_ids=ids.unsqueeze(0)).logits[0, len(prompt) - 1 : -1] / temperature
        scores = logits.log_softmax(-1)
        logps.append(scores[torch.arange(len(completion)), ids[len(prompt) :]])
        entropies.append(-(scores.exp() * scores).sum(-1))
        index.append(torch.full((len(completion),), i))
    return torch.cat(logps), torch.cat(entropies), torch.cat(index)
