"""Log probabilities of tokens, from the logits of the whole vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import FormatError
from ..kernels.elementwise import enter_float_mode, leave_float_mode, log, softmax_weights
from .filters import descending

__all__ = ["MOST_LOGPROBS", "Logprobs", "likeliest", "log_probabilities"]

MOST_LOGPROBS = 20
"""Alternatives that can be asked for with each token, as in OpenAI's API."""

Float32 = NDArray[np.float32]


class Logprobs(NamedTuple):
    """Log probabilities at one place of a text, in nats.

    Attributes
    ----------
    token : int
        The token that was chosen.
    logprob : float
    top : list of (token id, log probability)
        The likeliest tokens, falling; of equally likely ones the lowest id first.
    """

    token: int
    logprob: float
    top: list[tuple[int, float]]


def log_probabilities(logits: Float32, ids: Sequence[int] | NDArray[np.int64]) -> list[float]:
    """log softmax(logits)[ids] in nats.

    The sum of the softmax is that of the kernel `softmax_weights`, in its order; the rest is one
    double operation after the other, as in `elementwise.negative_log_likelihood`.

    Parameters
    ----------
    logits : float32 array of shape (vocab_size,)

    Raises
    ------
    FormatError
        If the logits are not finite: the checkpoint's weights overflow.
    """
    most = float(logits.max())
    if not np.isfinite(most):
        raise FormatError(f"the model's logits are not finite ({most}): its weights overflow")
    _, total = softmax_weights(logits)
    mode = enter_float_mode()  # the caller's mode may flush or round differently
    try:
        level = float(log(np.array([total], np.float64))[0]) + most
        return [float(logits[token]) - level for token in ids]
    finally:
        leave_float_mode(mode)


def likeliest(logits: Float32, token: int, count: int) -> Logprobs:
    """The log probability of `token`, and those of the `count` likeliest tokens."""
    ids = descending(logits, count)[:count].tolist() if count else []
    values = log_probabilities(logits, [token, *ids])
    return Logprobs(token, values[0], list(zip(ids, values[1:], strict=True)))
