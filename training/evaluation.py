"""How well a model predicts a text, counted as `BitNetModel.perplexity` counts."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from .model import BitNet

__all__ = ["Score", "score"]

ROWS = 8


@dataclass(frozen=True)
class Score:
    """Negative log likelihood of `tokens` tokens, which are `text_bytes` bytes of UTF-8."""

    nats: float
    tokens: int
    text_bytes: int

    @property
    def perplexity(self) -> float:
        return math.exp(self.nats / self.tokens)

    @property
    def bits_per_byte(self) -> float:
        return self.nats / math.log(2) / self.text_bytes


def score(
    model: BitNet,
    ids: NDArray[np.int32],
    bos: int,
    lengths: NDArray[np.int64],
    *,
    windows: int | None = None,
    progress: Callable[[float], None] = lambda share: None,
) -> Score:
    """Score consecutive windows of the context, BOS in front of each and not scored.

    Parameters
    ----------
    ids
        Of the text, without BOS.
    lengths
        Bytes of each id.
    windows
        So many of them, evenly spread, instead of all.
    progress
        Called with the share of the windows that is scored.
    """
    width = model.shape.context - 1
    begins = np.arange(0, len(ids), width)
    if windows is not None and windows < len(begins):
        begins = begins[np.linspace(0, len(begins) - 1, windows).astype(np.int64)]
    whole = [int(begin) for begin in begins if begin + width <= len(ids)]
    groups = [(whole[at : at + ROWS], width) for at in range(0, len(whole), ROWS)]
    groups += [
        ([int(begin)], len(ids) - int(begin)) for begin in begins if begin + width > len(ids)
    ]
    device = model.model.embed_tokens.weight.device
    nats, tokens, text_bytes = 0.0, 0, 0
    was_training = model.training
    model.eval()
    with torch.no_grad():
        for number, (rows, length) in enumerate(groups):
            progress(number / len(groups))
            targets = np.stack([ids[begin : begin + length] for begin in rows]).astype(np.int64)
            inputs = np.concatenate([np.full((len(rows), 1), bos), targets[:, :-1]], axis=1)
            logits = model(torch.from_numpy(inputs).to(device)).float().flatten(0, 1)
            expected = torch.from_numpy(targets).to(device).flatten()
            nats += float(functional.cross_entropy(logits, expected, reduction="sum"))
            tokens += targets.size
            text_bytes += int(lengths[targets].sum())
    model.train(was_training)
    return Score(nats, tokens, text_bytes)
