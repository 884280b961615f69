"""Causal attention, quick on each device."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["causal_attention"]

BLOCK = 128


def causal_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention of each position to itself and those before it.

    On a GPU PyTorch's own. Its kernel for CPUs multiplies at a fifth of the speed of a plain
    product, forwards and backwards; products of blocks of queries with the keys that they may
    see take a third of its time (8 rows of 512 tokens, 4 heads of 64, bfloat16, one core of Zen 5:
    38 instead of 107 ms).

    Parameters
    ----------
    q, k, v : (rows, heads, length, head_dim)

    Returns
    -------
    (rows, heads, length, head_dim)
    """
    if q.device.type != "cpu":
        return functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    length, head_dim = q.shape[-2:]
    q = q / math.sqrt(head_dim)
    parts = []
    for begin in range(0, length, BLOCK):
        end = min(begin + BLOCK, length)
        scores = (q[:, :, begin:end] @ k[:, :, :end].transpose(-1, -2)).float()
        hidden = torch.ones(end - begin, end, dtype=torch.bool).triu(begin + 1)
        chances = scores.masked_fill(hidden, -math.inf).softmax(-1)
        parts.append(chances.type_as(v) @ v[:, :, :end])
    return torch.cat(parts, dim=2)
