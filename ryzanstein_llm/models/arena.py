"""Memory for weights: large pieces on huge pages, handed out in the order of use.

A token reads every weight once. On 4 KiB pages that takes 130,000 translations for 521 MB.
Matrices that are allocated one by one are too small for 2 MiB pages, or start at the wrong place.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..formats import Tensor
from ..kernels.memory import HUGE_PAGE, zeros

__all__ = ["Arena", "detached"]

PIECE = 32 << 20
COPIED_BYTES = 32 << 20


class Arena:
    """Hands out uint8 arrays that keep their memory alive. A single array cannot be freed."""

    def __init__(self) -> None:
        self._free: NDArray[np.uint8] = np.empty(0, np.uint8)

    def allocate(self, size: int) -> NDArray[np.uint8]:
        """`size` bytes, 64-byte aligned."""
        padded = -(-size // 64) * 64
        if padded > self._free.size:
            self._free = zeros(max(PIECE, -(-padded // HUGE_PAGE) * HUGE_PAGE))
        taken, self._free = self._free[:size], self._free[padded:]
        return taken


def detached(tensor: Tensor) -> Tensor:
    """A copy, if the tensor is small; a large one stays a view of the file, which processes share.
    A view changes if the file is overwritten in place, and if it is cut, a read is SIGBUS."""
    if tensor.array.nbytes > COPIED_BYTES:
        return tensor
    array = tensor.array.copy()
    array.flags.writeable = False
    return replace(tensor, array=array)
