"""The two-stage schedule of the BitNet b1.58 training notes ("Training Tips, Code and FAQ", 2024).

The learning rate falls linearly towards zero over the whole run. At half of it the line changes to
one with a lower peak, and weight decay ends. Ternary weights take high rates because small updates
of a master flip nothing; in the second half the masters have to come to rest, and decay, which
draws them to zero and so across a threshold, would keep them flipping.
"""

from __future__ import annotations

from .settings import Settings

__all__ = ["learning_rate", "row_parts", "weight_decay"]

SECOND_STAGE = 0.5


def learning_rate(progress: float, settings: Settings) -> float:
    """The rate at `progress` from 0 to 1: linear warm-up, then the two lines."""
    if progress < settings.warmup:
        # not 0 at the first step, which would be lost
        return settings.learning_rate * max(progress / settings.warmup, 0.01)
    first = progress < SECOND_STAGE
    peak = settings.learning_rate if first else settings.second_learning_rate
    return peak * (1 - progress) / (1 - settings.warmup)


def weight_decay(progress: float, settings: Settings) -> float:
    """That of the settings in the first stage, 0 in the second."""
    return settings.weight_decay if progress < SECOND_STAGE else 0.0


def row_parts(progress: float, settings: Settings) -> int:
    """Into how many rows each is cut: `first_parts` in the first stage, then 1. Attention costs as
    much more as rows are longer, and what is learnt first does not need far words."""
    return settings.first_parts if progress < SECOND_STAGE else 1
