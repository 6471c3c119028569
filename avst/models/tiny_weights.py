"""First weights from which a tiny model learns in minutes.

The library draws every weight with a standard deviation of 0.02, which suits a width of thousands. At a width of 128 a
layer then shrinks what it is given eighteenfold, and training stands still for hundreds of steps. Here a layer keeps
the size of its input (standard deviation 1/√fan-in), what is added to the residual stream starts small (1/√(2·layers),
as in GPT-2), and near numbers start out alike, so that "a little to the right" need not be learned number by number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

EMBEDDING_STD = 0.5
RESIDUAL = ("o_proj", "down_proj", "attn.proj", "out_proj", "fc2")  # their outputs are added to the residual stream
WAVES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)  # periods in the range of the numbers
FADING = (1.0, 1.0, 1.0, 0.8, 0.6, 0.4, 0.3)  # the finer, the weaker: neighbours stay alike
ALIKE, APART = 0.9, 0.3  # shares of a number's row that come from the waves, and that are its own


def draw_weights(model: PreTrainedModel, numbers: Sequence[int], seed: int) -> None:
    """Draw all linear layers and embeddings of `model` anew, in place; the same seed draws the same.

    numbers: token ids of 0, 1, 2 … (n,), which start alike the nearer they are; may be empty.
    """
    draws = torch.Generator().manual_seed(seed)
    head = cast(nn.Linear, model.get_output_embeddings())
    depth = model.config.get_text_config().num_hidden_layers
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            std = module.in_features**-0.5
            if name.endswith(RESIDUAL):
                std /= math.sqrt(2 * depth)
            if module is head:
                std /= 2
            nn.init.normal_(module.weight, std=std, generator=draws)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=EMBEDDING_STD, generator=draws)
    if len(numbers):
        words = cast(nn.Embedding, model.get_input_embeddings()).weight
        _align(words, numbers, EMBEDDING_STD, draws)
        _align(head.weight, numbers, head.in_features**-0.5 / 2, draws)


def _align(rows: Tensor, ids: Sequence[int], std: float, draws: torch.Generator) -> None:
    """Overwrite the numbers' rows of (vocab, d) by a random projection of each number's Fourier features."""
    angles = 2 * math.pi * torch.arange(len(ids))[:, None] / len(ids) * torch.tensor(WAVES)
    waves = torch.cat([angles.cos(), angles.sin()], dim=1) * torch.tensor(FADING * 2)
    projection = torch.randn(2 * len(WAVES), rows.shape[1], generator=draws) / math.sqrt(2 * len(WAVES))
    own = torch.randn(len(ids), rows.shape[1], generator=draws)
    with torch.no_grad():
        rows[list(ids)] = std * (ALIKE * (waves / waves.std()) @ projection + APART * own)
