"""Weights that cannot come from training, such as those of a file that was not written in full: all
are zero, or all are alike. The model runs, but its text is nonsense, so a warning names the tensor.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..formats import Checkpoint

__all__ = ["warn_if_alike", "warn_if_zero"]

log = logging.getLogger(__name__)

SAMPLES = 4096

# Of packed codes, four or five weights a byte. In trained weights the commonest byte has a share of
# less than a tenth; here scales of groups and padding are allowed for.
SUSPICIOUS_SHARE = 0.85


def warn_if_zero(checkpoint: Checkpoint, name: str, array: NDArray[Any]) -> NDArray[Any]:
    """Log a warning if all numbers of an embedding, a head or a norm are zero. Some are looked at
    first, and all only if these are zero. Returns the array. Biases may be zero."""
    flat = array.reshape(-1)
    few = flat[:: max(1, flat.size // SAMPLES)]
    if not name.endswith(".bias") and not few.any() and not flat.any():
        log.warning("%s: tensor %r: all of its weights are zero", checkpoint.path, name)
    return array


def warn_if_alike(checkpoint: Checkpoint, name: str, codes: NDArray[np.uint8]) -> None:
    """Log a warning if nearly all weights of a packed matrix are alike. Looks at some bytes."""
    flat = codes.reshape(-1)
    few = flat[:: max(1, flat.size // SAMPLES) | 1]  # odd, so that it meets all columns of a tile
    if np.bincount(few).max() >= SUSPICIOUS_SHARE * few.size:
        log.warning("%s: tensor %r: nearly all of its weights are alike", checkpoint.path, name)
