"""Log-probs by pieces of the vocabulary are those of all logits at once: values, entropies and gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from avst.models import logprobs
from avst.models.logprobs import Head, plain_logps, token_logps

WORDS, SIZE, TOKENS = 97, 12, 21


def world(dtype: torch.dtype = torch.float64) -> tuple[Tensor, nn.Linear, Tensor, Tensor]:
    """States, a head with large and small weights, targets (the first and last word among them), gradients."""
    generator = torch.Generator().manual_seed(3)
    head = Head(SIZE, WORDS, bias=False, dtype=dtype)
    with torch.no_grad():
        head.weight.copy_(torch.randn(WORDS, SIZE, generator=generator) * 3)
    hidden = torch.randn(TOKENS, SIZE, generator=generator).to(dtype)
    targets = torch.randint(0, WORDS, (TOKENS,), generator=generator)
    targets[:2] = torch.tensor([0, WORDS - 1])
    return hidden, head, targets, torch.randn(TOKENS, generator=generator).to(dtype)


def derived(function, hidden: Tensor, head: nn.Linear, targets: Tensor, grad: Tensor, temperature: float):
    hidden = hidden.clone().requires_grad_()
    head.zero_grad()
    logps, entropies = function(hidden, targets, head, temperature)
    (logps * grad).sum().backward()
    assert not entropies.requires_grad
    return logps.detach(), entropies, hidden.grad, head.weight.grad.clone()


@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("columns", [1, 10, 96, 97, 1000])
def test_pieces_are_the_whole(monkeypatch: pytest.MonkeyPatch, columns: int, temperature: float) -> None:
    """Whatever the width of a piece, the last one narrower or not."""
    parts = world()
    monkeypatch.setitem(logprobs.LOGITS_AT_ONCE, "cpu", columns * TOKENS)
    for ours, plain in zip(
        derived(token_logps, *parts, temperature), derived(plain_logps, *parts, temperature), strict=True
    ):
        torch.testing.assert_close(ours, plain, rtol=1e-11, atol=1e-12)


def test_gradients_by_finite_differences(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden, head, targets, _ = world()
    monkeypatch.setitem(logprobs.LOGITS_AT_ONCE, "cpu", 30 * TOKENS)

    def logps(states: Tensor, weight: Tensor) -> Tensor:
        bare = Head(SIZE, WORDS, bias=False, dtype=torch.float64)
        del bare.weight
        bare.weight = weight  # type: ignore[assignment]
        return token_logps(states, targets, bare, 0.8)[0]

    assert torch.autograd.gradcheck(logps, (hidden.requires_grad_(), head.weight))


@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("frozen", ["head", "states"])
def test_what_is_frozen_gets_no_gradient(monkeypatch: pytest.MonkeyPatch, frozen: str, temperature: float) -> None:
    hidden, head, targets, grad = world()
    monkeypatch.setitem(logprobs.LOGITS_AT_ONCE, "cpu", 30 * TOKENS)
    *_, for_hidden, for_head = derived(plain_logps, hidden, head, targets, grad, temperature)
    head.zero_grad()
    hidden.requires_grad_(frozen != "states")
    head.requires_grad_(frozen != "head")
    (token_logps(hidden, targets, head, temperature)[0] * grad).sum().backward()
    if frozen == "head":
        assert head.weight.grad is None
        torch.testing.assert_close(hidden.grad, for_hidden, rtol=1e-11, atol=1e-12)
    else:
        assert hidden.grad is None
        torch.testing.assert_close(head.weight.grad, for_head, rtol=1e-11, atol=1e-12)


def test_huge_logits_stay_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    """Logits of ±1e4, far beyond what an exponential holds, the greatest in the first, a middle and the last piece."""
    _, head, targets, grad = world()
    hidden = torch.randn(TOKENS, SIZE, dtype=torch.float64) * 1e3
    monkeypatch.setitem(logprobs.LOGITS_AT_ONCE, "cpu", 20 * TOKENS)
    for ours, plain in zip(
        derived(token_logps, hidden, head, targets, grad, 1.0),
        derived(plain_logps, hidden, head, targets, grad, 1.0),
        strict=True,
    ):
        assert ours.isfinite().all()
        torch.testing.assert_close(ours, plain, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("weights", [torch.float32, torch.bfloat16])
def test_autocast_and_bfloat16(monkeypatch: pytest.MonkeyPatch, weights: torch.dtype) -> None:
    """Products in bfloat16, all else in float32; the gradients come in the dtypes of what they belong to."""
    parts = world(weights)
    monkeypatch.setitem(logprobs.LOGITS_AT_ONCE, "cpu", 30 * TOKENS)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=weights == torch.float32):
        ours = derived(token_logps, *parts, 1.0)
        plain = derived(plain_logps, *parts, 1.0)
    assert [one.dtype for one in ours] == [one.dtype for one in plain]
    # log-probs and entropies are differences of float32 logits of some thirty: 1e-6 of that
    for one, other, noise in zip(ours, plain, (3e-5, 1e-4, 0.03, 0.03), strict=True):
        torch.testing.assert_close(one.float(), other.float(), rtol=noise, atol=noise * float(other.abs().max()))


def test_a_head_of_its_own_kind_is_called() -> None:
    """One with a bias (or an adapter) computes its logits itself, by pieces of the tokens; a Head with hooks (an engine
    gathers its weights in them) is called too."""
    hidden, _, targets, grad = world()
    head = nn.Linear(SIZE, WORDS, dtype=torch.float64)
    hooked = Head(SIZE, WORDS, bias=False, dtype=torch.float64)
    calls: list[int] = []
    hooked.register_forward_pre_hook(lambda module, args: calls.append(len(args[0])))
    for one in (head, hooked):
        for ours, plain in zip(
            derived(token_logps, hidden, one, targets, grad, 1.0),
            derived(plain_logps, hidden, one, targets, grad, 1.0),
            strict=True,
        ):
            torch.testing.assert_close(ours, plain, rtol=1e-11, atol=1e-12)
    assert calls
