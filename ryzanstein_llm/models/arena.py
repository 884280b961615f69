"""Memory for weights: large pieces on huge pages, handed out in the order of use.

A token reads every weight once. On 4 KiB pages that takes 130,000 translations for 521 MB.
Matrices that are allocated one by one are too small for 2 MiB pages, or start at the wrong place.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..formats import Tensor
from ..kernels.memory import HUGE_PAGE, resident_bytes, zeros

__all__ = ["Arena", "arena_bytes", "detached"]

PIECE = 32 << 20
COPIED_BYTES = 32 << 20


class _Places:
    """Where arrays lie in pieces: sizes only.

    Attributes
    ----------
    piece : int
        Size of the current piece.
    used : int
        Bytes of it that are taken.
    """

    def __init__(self) -> None:
        self.piece = self.used = 0

    def begins_piece(self, size: int) -> bool:
        """Whether an array of so many bytes needs a new piece. If so, it is the first in it."""
        padded = -(-size // 64) * 64
        new = padded > self.piece - self.used
        if new:
            self.piece, self.used = max(PIECE, -(-padded // HUGE_PAGE) * HUGE_PAGE), 0
        self.used += padded
        return new


class Arena:
    """Hands out uint8 arrays that keep their memory alive. A single array cannot be freed."""

    def __init__(self) -> None:
        self._places = _Places()
        self._memory: NDArray[np.uint8] = np.empty(0, np.uint8)

    def allocate(self, size: int) -> NDArray[np.uint8]:
        """`size` bytes, 64-byte aligned."""
        if self._places.begins_piece(size):
            self._memory = zeros(self._places.piece)
        begin = self._places.used - -(-size // 64) * 64
        return self._memory[begin : begin + size]


def arena_bytes(sizes: Iterable[int]) -> int:
    """Memory that an arena takes for arrays of these sizes when they have been written: what is
    free at the end of a piece costs nothing, except the rest of a page."""
    places, total, filled = _Places(), 0, 0
    for size in sizes:
        if places.begins_piece(size):
            total += resident_bytes(filled)
        filled = places.used
    return total + resident_bytes(filled)


def detached(tensor: Tensor) -> Tensor:
    """A copy, if the tensor is small; a large one stays a view of the file, which processes share.
    A view changes if the file is overwritten in place, and if it is cut, a read is SIGBUS."""
    if tensor.array.nbytes > COPIED_BYTES:
        return tensor
    array = tensor.array.copy()
    array.flags.writeable = False
    return replace(tensor, array=array)
