"""Memory for weights: large pieces on huge pages, cut up in the order of use.

A token reads every weight once. On 4 KiB pages that is 130,000 translations for 521 MB,
and matrices allocated one by one are too small or too oddly placed for 2 MiB pages.
"""

from __future__ import annotations

import contextlib
import mmap

import numpy as np
from numpy.typing import NDArray

from ..kernels.packing import aligned_empty

__all__ = ["Arena"]

HUGE_PAGE = 2 << 20
PIECE = 32 << 20


class Arena:
    """Hands out uint8 arrays that keep their memory alive; nothing is given back singly."""

    def __init__(self) -> None:
        self._free: NDArray[np.uint8] = np.empty(0, np.uint8)

    def allocate(self, size: int) -> NDArray[np.uint8]:
        """`size` bytes, 64-byte aligned."""
        padded = -(-size // 64) * 64
        if padded > self._free.size:
            self._free = _huge_pages(max(PIECE, -(-padded // HUGE_PAGE) * HUGE_PAGE))
        taken, self._free = self._free[:size], self._free[padded:]
        return taken


def _huge_pages(size: int) -> NDArray[np.uint8]:
    """`size` bytes from a multiple of 2 MiB, on huge pages where the system has them to give."""
    if not hasattr(mmap, "MAP_PRIVATE"):  # Windows
        return aligned_empty(size)
    # private: the default would be shared memory, which gets no huge pages
    try:
        memory = mmap.mmap(-1, size + HUGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise MemoryError(f"no {size} bytes for weights: {error}") from None
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel built without them
            memory.madvise(mmap.MADV_HUGEPAGE)
    array: NDArray[np.uint8] = np.frombuffer(memory, np.uint8)
    start = -array.ctypes.data % HUGE_PAGE
    return array[start : start + size]
