"""A transformers model that also understands `packed=`: per-token log-probs of whole groups in one forward pass.

The class of the loaded model is extended, its files are not: the model keeps its name, saves and loads as before, and
still generates. Wrappers (DDP, FSDP, DeepSpeed, peft) see one ordinary forward call, so their hooks fire.
"""

from __future__ import annotations

from functools import wraps
from typing import Any, TypedDict

import torch
from torch import Tensor
from transformers import PreTrainedModel

from avst.models.attention import install
from avst.models.features import embed, idle_towers
from avst.models.lockstep import in_lockstep
from avst.models.logprobs import TOKENS_AT_ONCE, teach_head, token_logps
from avst.models.packing import PackedRow
from avst.models.shared_cache import SharedCache


class Logps(TypedDict):
    """What the packed forward returns: logps (ΣC,) and entropies (ΣC,), in row order."""

    logps: Tensor
    entropies: Tensor


def understand_groups(model: PreTrainedModel, attention: str = "sdpa") -> PreTrainedModel:
    """Give `model` the packed forward and the group attention over `attention`; returns the same object."""
    base = type(model)

    @wraps(base.forward)  # `generate` and the Trainer read the signature
    def forward(
        self: PreTrainedModel, *args: Any, packed: PackedRow | None = None, temperature: float = 1.0, **kwargs: Any
    ) -> Any:
        if packed is None:
            if isinstance(cache := kwargs.get("past_key_values"), SharedCache):
                kwargs["group"] = cache  # a rollout: its attention looks up the prompts' states there
            return base.forward(self, *args, **kwargs)
        return packed_logps(self, packed, temperature)

    model.__class__ = type(base.__name__, (base,), {"forward": forward, "__module__": base.__module__})
    install(model.model.language_model, attention)
    teach_head(model.lm_head)
    return model


def packed_logps(model: PreTrainedModel, row: PackedRow, temperature: float = 1.0) -> Logps:
    """Log-prob and entropy of every answer token of the row's groups."""
    row = row.to(model.device)
    starts = [(part.start, prompt) for part, prompt in zip(row.layout.segments, row.prompts, strict=True)]
    embeds = embed(model, row.input_ids, starts, row.idle)
    if torch.is_grad_enabled():
        embeds = embeds + idle_towers(model, row.idle)
    hidden = model.model.language_model(
        inputs_embeds=embeds,
        position_ids=row.position_ids,
        attention_mask={"full_attention": None, "sliding_attention": None},  # the layout says it all
        use_cache=False,
        group=row.layout,
    ).last_hidden_state
    states = hidden[0, row.predictors]
    at_once = len(states) if in_lockstep(model) else TOKENS_AT_ONCE  # processes have other numbers of tokens
    logps, entropies = token_logps(states, row.targets, model.lm_head, temperature, at_once)
    return {"logps": logps, "entropies": entropies}
