"""Per-token log-probs from hidden states, in pieces, so that no (ΣC, vocabulary) tensor stands in memory.

The plain way forms all logits in float32 and keeps them for the backward pass: 6 answers of 1,024 tokens over 152,064
words are 3.7 GB, several times over. Here the vocabulary is walked through piece by piece with a running
log-sum-exp; the backward pass forms each piece again, adds its share to the states' gradient and writes the rows of the
head's gradient, each once. (By pieces of tokens, the head's whole gradient would be read and written for every piece.)
One product more than the plain way, and far fewer passes over memory: scripts/bench/head.py measures both. Behind a
frozen head (LoRA) the states' gradient but for its factor is known when the forward pass ends, and nothing is formed
twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

# float32 logits of one piece: what a processor's cache holds, or 128 MB where starting a kernel costs more than that
LOGITS_AT_ONCE = {"cpu": 1 << 21}
LOGITS_ELSEWHERE = 1 << 25
TOKENS_AT_ONCE = 256


def token_logps(
    hidden: Tensor, targets: Tensor, head: nn.Module, temperature: float = 1.0, at_once: int = TOKENS_AT_ONCE
) -> tuple[Tensor, Tensor]:
    """Log-prob and entropy of the policy at each answer token.

    hidden: (ΣC, D), the states that predict;  targets: int64 (ΣC,);  head: the language-model head;
    temperature: the one answers were sampled with (as in TRL, logits are divided by it);  at_once: tokens for which a
    head that is no `Head` is called once.

    Returns (logps (ΣC,), entropies (ΣC,) in nats without gradient), in float32 or float64.
    """
    if isinstance(head, Head):
        return head(hidden, targets=targets, temperature=temperature)
    logps, entropies = [], []
    for h, t in zip(hidden.split(at_once), targets.split(at_once), strict=True):
        logp, entropy = (
            checkpoint(plain_logps, h, t, head, temperature, use_reentrant=False)
            if torch.is_grad_enabled()
            else plain_logps(h, t, head, temperature)
        )
        logps.append(logp)
        entropies.append(entropy)
    return torch.cat(logps), torch.cat(entropies)


def plain_logps(hidden: Tensor, targets: Tensor, head: nn.Module, temperature: float) -> tuple[Tensor, Tensor]:
    """What token_logps computes, with all logits at once."""
    logits: Tensor = head(hidden)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature
    total = logits.logsumexp(-1)
    logps = logits.gather(-1, targets[:, None]).squeeze(-1) - total
    with torch.no_grad():
        entropies = total - (logits * (logits - total[:, None]).exp()).sum(-1)
    return logps, entropies


class Head(nn.Linear):
    """A language-model head that can also give log-probs. They are made in its forward, where engines that share
    weights out (ZeRO-3, FSDP) have gathered them."""

    def forward(self, input: Tensor, targets: Tensor | None = None, temperature: float = 1.0) -> Any:
        """Logits; with targets int64 (ΣC,) what `token_logps` returns."""
        if targets is None:
            return super().forward(input)
        device = input.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else input.dtype
        columns = max(1, LOGITS_AT_ONCE.get(device, LOGITS_ELSEWHERE) // max(1, len(input)))
        with torch.autocast(device, enabled=False):  # dtype says what the products are made in, all else is wider
            return _Vocabulary.apply(input, self.weight, targets, temperature, columns, dtype)


def teach_head(head: nn.Module) -> None:
    """Make a linear layer a Head, in place. Quantised layers, adapters and heads with a bias have a forward of their
    own, which must be called: they stay as they are."""
    if type(head) is nn.Linear and head.bias is None:
        head.__class__ = Head


class _Vocabulary(torch.autograd.Function):
    """logps and entropies, `columns` words of the vocabulary at a time. dtype: of the matrix products."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, temperature: float, columns: int, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        ctx.settings = temperature, columns, dtype
        to_hidden, to_weight = ctx.needs_input_grad[:2]
        wide = torch.promote_types(dtype, torch.float32)
        top = hidden.new_full((len(hidden), 1), float("-inf"), dtype=wide)
        total, weighted = torch.zeros_like(top), torch.zeros_like(top)  # Σ e^(x - top), Σ x·e^(x - top)
        chosen = torch.zeros_like(top)
        expected = torch.zeros_like(hidden, dtype=wide) if to_hidden and not to_weight else None  # Σ w·e^(x - top)
        for rows, logits in _pieces(hidden, weight, temperature, columns, dtype):
            here, column = _inside(targets, rows.start, logits.shape[1])
            chosen = torch.where(here, logits.gather(1, column), chosen)
            higher = torch.maximum(top, logits.amax(1, keepdim=True))
            shrink = (top - higher).exp_()
            exp = (logits - higher).exp_()
            total = total * shrink + exp.sum(1, keepdim=True)
            weighted = weighted * shrink + torch.linalg.vecdot(exp, logits)[:, None]
            if expected is not None:
                expected.mul_(shrink).add_(exp.to(dtype) @ weight[rows].to(dtype))
            top = higher
        log_total = top + total.log()
        entropies = (log_total - weighted / total).squeeze(1)
        if expected is not None:  # d logp / d state = (w[target] - E[w]) / temperature
            ctx.save_for_backward(weight[targets].to(wide).sub_(expected.div_(total)).div_(temperature))
        else:
            ctx.save_for_backward(hidden, weight, targets, log_total)
        ctx.mark_non_differentiable(entropies)
        return (chosen - log_total).squeeze(1), entropies

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        temperature, columns, dtype = ctx.settings
        if len(ctx.saved_tensors) == 1:
            (slope,) = ctx.saved_tensors
            return (grad[:, None] * slope).to(dtype), None, None, None, None, None
        hidden, weight, targets, log_total = ctx.saved_tensors
        grad = grad[:, None] / temperature
        grad_hidden = torch.zeros_like(hidden, dtype=log_total.dtype) if ctx.needs_input_grad[0] else None
        grad_weight = torch.empty_like(weight)
        states = hidden.to(dtype)
        for rows, logits in _pieces(hidden, weight, temperature, columns, dtype):
            here, column = _inside(targets, rows.start, logits.shape[1])
            piece = logits.sub_(log_total).exp_().mul_(-grad)
            piece.scatter_add_(1, column, torch.where(here, grad, torch.zeros_like(grad)))
            piece = piece.to(dtype)
            if grad_hidden is not None:
                grad_hidden += piece @ weight[rows].to(dtype)
            grad_weight[rows] = piece.T @ states
        return None if grad_hidden is None else grad_hidden.to(hidden.dtype), grad_weight, None, None, None, None


def _pieces(
    hidden: Tensor, weight: Tensor, temperature: float, columns: int, dtype: torch.dtype
) -> Iterator[tuple[slice, Tensor]]:
    """(words, their logits (ΣC, columns) in float32 or float64), piece by piece. Each may be written over."""
    wide = torch.promote_types(dtype, torch.float32)
    states = hidden.to(dtype)
    for first in range(0, len(weight), columns):
        rows = slice(first, first + columns)
        logits = (states @ weight[rows].to(dtype).T).to(wide)
        yield rows, logits if temperature == 1.0 else logits.div_(temperature)


def _inside(targets: Tensor, first: int, width: int) -> tuple[Tensor, Tensor]:
    """Whether a token is one of the piece's words, and its column there (0 where it is not); both (ΣC, 1)."""
    column = targets[:, None] - first
    here = (column >= 0) & (column < width)
    return here, torch.where(here, column, torch.zeros_like(column))
