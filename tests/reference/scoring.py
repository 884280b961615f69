"""Perplexity and bits per byte, as the project defines them.

The ids of a text (no special tokens) are cut into consecutive windows of
`context_length − 1`; each is preceded by BOS, which is not scored.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .ops import log_softmax


@dataclass(frozen=True)
class Score:
    """The likelihood of a text: scored tokens, and their summed negative log likelihood in nats."""

    tokens: int
    nats: float

    @property
    def perplexity(self) -> float:
        return math.exp(self.nats / self.tokens)

    def bits_per_byte(self, text: str) -> float:
        return self.nats / math.log(2.0) / len(text.encode("utf-8"))


def score_windows(ids: Sequence[int], bos: int, context_length: int) -> list[list[int]]:
    """The windows a text is scored in, BOS first, none longer than the context."""
    step = context_length - 1
    return [[bos, *ids[begin : begin + step]] for begin in range(0, len(ids), step)]


def perplexity(
    forward: Callable[[Sequence[int]], npt.NDArray[np.floating]],
    ids: Sequence[int],
    bos: int,
    context_length: int,
) -> Score:
    """Score `ids` with `forward`, which gives the logits `(tokens, vocab)` of one window."""
    nats = 0.0
    for window in score_windows(ids, bos, context_length):
        likelihood = log_softmax(forward(window[:-1]))
        nats -= float(np.sum(likelihood[np.arange(len(window) - 1), window[1:]]))
    return Score(len(ids), nats)


def greedy_choices(
    forward: Callable[[Sequence[int]], npt.NDArray[np.floating]],
    prompt: Sequence[int],
    continuation: Sequence[int],
) -> list[int]:
    """The likeliest token at each place of `continuation`, given all before it.

    Equal to `continuation` exactly when that is what greedy decoding gives, in one pass.
    """
    logits = forward([*prompt, *continuation[:-1]])[len(prompt) - 1 :]
    return [int(token) for token in np.argmax(logits, axis=-1)]
