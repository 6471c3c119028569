"""Per-token log-probs from hidden states, in chunks, so that no (ΣC, vocabulary) float32 tensor stands in memory."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def token_logps(
    hidden: Tensor, targets: Tensor, head: nn.Module, temperature: float = 1.0, chunk: int = 256
) -> tuple[Tensor, Tensor]:
    """Log-prob and entropy of the policy at each answer token.

    hidden: (ΣC, D), the states that predict;  targets: int64 (ΣC,);  head: the language-model head;
    temperature: the one answers were sampled with (as in TRL, logits are divided by it);  chunk: tokens at a time.

    Returns (logps (ΣC,), entropies (ΣC,) in nats without gradient). Logits are formed chunk by chunk and again in the
    backward pass.
    """
    logps, entropies = [], []
    recompute = torch.is_grad_enabled()
    for h, t in zip(hidden.split(chunk), targets.split(chunk), strict=True):
        if recompute:
            logp, entropy = checkpoint(_chunk, h, t, head, temperature, use_reentrant=False)
        else:
            logp, entropy = _chunk(h, t, head, temperature)
        logps.append(logp)
        entropies.append(entropy)
    return torch.cat(logps), torch.cat(entropies)


def _chunk(hidden: Tensor, targets: Tensor, head: nn.Module, temperature: float) -> tuple[Tensor, Tensor]:
    logits = head(hidden)
    logits = logits.float() if logits.dtype != torch.float64 else logits  # float64 is kept for exact comparisons
    logits = logits / temperature
    total = logits.logsumexp(-1)
    logps = logits.gather(-1, targets[:, None]).squeeze(-1) - total
    with torch.no_grad():
        entropies = total - (logits * (logits - total[:, None]).exp()).sum(-1)
    return logps, entropies
