"""Ternary weights and int8 activations that gradients pass through as if they were not rounded.

Both are kept as whole numbers with a scale beside them: -1, 0, +1 and -128..127 are exact in
bfloat16, so that a step under autocast multiplies the very numbers that inference multiplies.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Projection", "projection_input", "quantize_activations", "quantize_weight"]

SMALLEST = 1e-5
"""Least absmean and absmax, as in `transformers`."""


def _straight_through(value: Tensor, rounded: Tensor) -> Tensor:
    """`rounded`, with the gradient of `value`."""
    return value + (rounded - value).detach()


def quantize_weight(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Absmean over the whole tensor: -1, 0, +1 in the shape of `weight`, and the scale () that
    multiplies them. Ties round to even."""
    inverse = 1 / weight.detach().abs().mean().clamp_min(SMALLEST)
    scaled = weight * inverse
    return _straight_through(scaled, scaled.round().clamp(-1, 1)), 1 / inverse


def quantize_activations(x: Tensor) -> tuple[Tensor, Tensor]:
    """Absmax of each token: whole numbers in the shape (..., width) of `x`, and the scale (..., 1)
    that multiplies them."""
    inverse = 127 / x.detach().abs().amax(dim=-1, keepdim=True).clamp_min(SMALLEST)
    scaled = x * inverse
    return _straight_through(scaled, scaled.round().clamp(-128, 127)), 1 / inverse


def projection_input(x: Tensor, ternary: bool) -> tuple[Tensor, Tensor | None]:
    """What all projections of `x` take: its whole numbers and their scale, or the floats."""
    return quantize_activations(x) if ternary else (x, None)


class Projection(nn.Module):
    """A linear layer without bias. `weight` (out, in) is the float master."""

    def __init__(self, columns: int, rows: int, ternary: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(rows, columns))
        self.ternary = ternary

    def forward(self, x: Tensor, scale: Tensor | None) -> Tensor:
        """From what `projection_input` gave, (..., in) and its scale, to float32 (..., out)."""
        if scale is None:
            return functional.linear(x, self.weight).float()
        weight, weight_scale = quantize_weight(self.weight)
        return functional.linear(x, weight).float() * (scale * weight_scale)
