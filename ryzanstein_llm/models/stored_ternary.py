"""Finds out whether a float tensor is ternary already, and which weights share a scale.

Some checkpoints hold their ternary weights as floats: every weight is -s, 0 or +s, where s belongs
to the whole matrix (Falcon-E's bfloat16 revision), to a row or part of a row (TriLM), or to 64, 128
or 256 neighbours of a row (Ternary-Bonsai, CAT-Q, BitCPM4). Absmean would shrink s by the share of
non-zero weights, so such weights are taken as they are.

Only a few rows are looked at here, so masters cost nothing. Packing checks every weight.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..formats import Tensor

__all__ = ["GROUPS", "INFINITE", "MAGNITUDE", "sampled_group"]

GROUPS = (256, 128, 64)
"""Numbers of columns that may share a scale, if not all of a row do."""

SAMPLED_ROWS = 16

# Bits of a float without its sign. Of finite floats, larger bits mean a larger magnitude.
MAGNITUDE = {"BF16": 0x7FFF, "F16": 0x7FFF, "F32": 0x7FFFFFFF}
INFINITE = {"BF16": 0x7F80, "F16": 0x7C00, "F32": 0x7F800000}


def sampled_group(tensor: Tensor) -> int | None:
    """The largest number of columns that share a scale in some rows of a float matrix: the columns
    of a row rounded up to a multiple of 64, or one of GROUPS. None if these rows are not ternary.

    Parameters
    ----------
    tensor : Tensor of shape (rows, columns)
        BF16, F16 or F32.
    """
    bits: NDArray[Any] = tensor.array.view(np.uint32 if tensor.dtype == "F32" else np.uint16)
    rows, columns = bits.shape
    sampled = np.unique(np.linspace(0, rows - 1, min(rows, SAMPLED_ROWS)).astype(np.int64))
    magnitudes = bits[sampled] & bits.dtype.type(MAGNITUDE[tensor.dtype])
    if (magnitudes >= INFINITE[tensor.dtype]).any():
        return None
    row = -(-columns // GROUPS[-1]) * GROUPS[-1]
    return next((group for group in (row, *GROUPS) if _share_scales(magnitudes, group)), None)


def _share_scales(magnitudes: NDArray[Any], group: int) -> bool:
    """Whether the weights of each group of columns have one magnitude, if they are not zero."""
    short = -magnitudes.shape[1] % group
    groups = np.pad(magnitudes, ((0, 0), (0, short))).reshape(len(magnitudes), -1, group)
    largest = groups.max(axis=2, keepdims=True)
    return bool(((groups == 0) | (groups == largest)).all())
