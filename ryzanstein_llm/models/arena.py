"""Memory for weights: large pieces on huge pages, cut up in the order of use.

A token reads every weight once. On 4 KiB pages that is 130,000 translations for 521 MB,
and matrices allocated one by one are too small or too oddly placed for 2 MiB pages.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..kernels.memory import HUGE_PAGE, zeros

__all__ = ["Arena"]

PIECE = 32 << 20


class Arena:
    """Hands out uint8 arrays that keep their memory alive; nothing is given back singly."""

    def __init__(self) -> None:
        self._free: NDArray[np.uint8] = np.empty(0, np.uint8)

    def allocate(self, size: int) -> NDArray[np.uint8]:
        """`size` bytes, 64-byte aligned."""
        padded = -(-size // 64) * 64
        if padded > self._free.size:
            self._free = zeros(max(PIECE, -(-padded // HUGE_PAGE) * HUGE_PAGE))
        taken, self._free = self._free[:size], self._free[padded:]
        return taken
