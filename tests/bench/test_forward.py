"""The forward benchmark: both arms compute the same, and its ideals and fits are what they say."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from scripts.bench.forward import SMALL, Cell, Grid, fit, ideals, slopes
from scripts.bench.forward_arms import WORDS, image_prompt, packed, repeated, text_prompt, words


def _gradients(model: Any) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("images", [0, 1])
@pytest.mark.parametrize("batch", [1, 2])
def test_both_arms_compute_the_same(batch: int, images: int) -> None:
    """Log-probs and every gradient, in float64; with images the tower's as well."""
    model = SMALL.build().double()
    prompt = image_prompt(model, 180, images) if images else text_prompt(20)
    answers = words(3, 5)
    ours, mine = packed(model, prompt, answers)(), _gradients(model)
    theirs, wanted = repeated(model, prompt, answers, batch)(), _gradients(model)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
    assert ours.std() > 0.05, "the model says the same of every token, so nothing is tested"
    assert mine.keys() == wanted.keys()
    assert any(".visual." in name for name in mine) == bool(images)
    for name, gradient in wanted.items():  # the library's norms compute in float32, whatever the model's dtype
        assert (mine[name] - gradient).norm() <= 1e-6 * gradient.norm(), name


def test_products_are_those_of_the_layers() -> None:
    """Linear layers and head as torch counts them; every pair that is not masked costs 2 · hidden · layers."""
    model, P, G, C = SMALL.build(), 30, 3, 7
    linear = [m for m in model.model.language_model.modules() if isinstance(m, torch.nn.Linear)]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        for layer in linear:
            layer(torch.zeros(P + G * C, layer.in_features))
    counted = counter.get_total_flops() / 2 + G * C * SMALL.hidden * WORDS
    pairs = sum(range(1, P + 1)) + G * sum(P + i for i in range(1, C + 1))
    assert SMALL.products(P, G, C, packed=True) == counted + pairs * 2 * SMALL.hidden * SMALL.layers
    assert SMALL.products(P, G, C, packed=False) == G * SMALL.products(P, 1, C, packed=True)


def test_cells_come_from_the_runs() -> None:
    first, *rest = ideals("tiny", SMALL, Grid((32, 48), (2, 3), (4,), repeats=2))
    tokens, products = rest[-2:]
    assert len(rest) == 3 + 2
    cells = [Cell(**cell) for cell in tokens.how["cells"]]
    assert [(cell.P, cell.G) for cell in cells] == [(32, 2), (32, 3), (48, 2), (48, 3)]
    one = cells[0]
    ratios = [a / b for a, b in zip(one.seconds["repeated"], one.seconds["packed"], strict=True)]
    assert min(ratios) <= one.ratio <= max(ratios)
    assert first.value == pytest.approx(one.ratio / (2 * 36 / 40))
    assert one.products == pytest.approx(one.ratio / (SMALL.products(32, 2, 4, False) / SMALL.products(32, 2, 4, True)))
    assert tokens.value == min(cell.tokens for cell in cells)
    assert products.value == min(cell.products for cell in cells)


def test_slopes_come_from_the_runs() -> None:
    r2, slope = slopes(SMALL, 64, (8,), (16, 32, 48), repeats=1)
    how = slope.how
    assert how["plain_rows"] == {"less": 64 + 4 - 51, "more": 64 + 4 + 51}  # about the mean of an answer's keys
    alone = (how["medians"]["more"] - how["medians"]["less"]) / 102
    assert slope.value == pytest.approx(how["slope_us"] / 1e6 / alone)
    assert r2.value <= 1


def test_fit() -> None:
    slope, intercept, r2 = fit((1, 2, 3, 4), [5.0, 7.0, 9.0, 11.0])
    assert (slope, intercept, r2) == pytest.approx((2.0, 3.0, 1.0))
    assert fit((1, 2, 3), [1.0, 0.0, 1.0])[2] == pytest.approx(0.0)
