"""What both limits of a machine allow for a pass over the weights. A share of it can be compared
between machines of different kinds, where times and shares of one limit alone cannot."""

from __future__ import annotations

from ryzanstein_llm.profiling import Limits

__all__ = ["mean", "roofline"]


def roofline(limits: Limits, tokens: int, nbytes: float, multiply_adds: float) -> float:
    """Tokens a second, at most.

    Parameters
    ----------
    limits : Limits
        Of the same run, tier and number of threads.
    tokens : int
        That share a pass: one of each sequence, or those of a prompt.
    nbytes : float
        That the pass reads, at least.
    multiply_adds : float
        Ternary ones, of each token.
    """
    reading = nbytes / limits.bytes_per_second
    multiplying = tokens * multiply_adds / limits.multiply_adds_per_second
    return tokens / max(reading, multiplying)


def mean(before: Limits, after: Limits) -> Limits:
    """Of limits that were measured before and after something."""
    return Limits(
        (before.bytes_per_second + after.bytes_per_second) / 2,
        (before.multiply_adds_per_second + after.multiply_adds_per_second) / 2,
    )
