"""Rotary position embedding: cosines and sines by position (Su et al. 2021, arXiv 2104.09864)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..kernels.packing import rotary_table

__all__ = ["RotaryTable"]

Float32 = NDArray[np.float32]


class RotaryTable:
    """Cosines and sines by position. The table grows when later positions are needed."""

    def __init__(self, theta: float, head_dim: int, context_length: int) -> None:
        self._theta, self._head_dim, self._context_length = theta, head_dim, context_length
        self._tables = rotary_table(theta, head_dim, 0, min(1024, context_length))

    def tables(self, positions: int) -> tuple[Float32, Float32]:
        """(cos, sin), float32 (at least `positions`, head_dim // 2) each."""
        have = len(self._tables[0])
        if positions > have:
            end = min(max(2 * have, positions), max(self._context_length, positions))
            cosines, sines = rotary_table(self._theta, self._head_dim, have, end)
            self._tables = (
                np.concatenate((self._tables[0], cosines)),
                np.concatenate((self._tables[1], sines)),
            )
        return self._tables
