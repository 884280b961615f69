"""Large blocks of memory, on huge pages if the system has them."""

from __future__ import annotations

import contextlib
import mmap
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .packing import aligned_empty

__all__ = ["HUGE_PAGE", "resident_bytes", "zeros"]

HUGE_PAGE = 2 << 20


def zeros(size: int) -> NDArray[np.uint8]:
    """`size` bytes of zeros, at an address that is a multiple of 2 MiB (of 64 bytes on Windows).
    The system allocates a page when it is first written.

    Raises
    ------
    MemoryError
        If the system has not enough address space.
    """
    if not hasattr(mmap, "MAP_PRIVATE"):  # Windows
        array = aligned_empty(size)
        array.fill(0)
        return array
    # private, because the default is shared memory: it gets no huge pages, and forked children
    # share it too
    try:
        memory = mmap.mmap(-1, size + HUGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise MemoryError(f"cannot allocate {size} bytes: {error}") from None
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel built without huge pages
            memory.madvise(mmap.MADV_HUGEPAGE)
    array = np.frombuffer(memory, np.uint8)
    start = -array.ctypes.data % HUGE_PAGE
    return array[start : start + size]


def resident_bytes(size: int, root: str = "/") -> int:
    """Memory that the first `size` bytes of `zeros` take when they have been written: whole pages,
    of 2 MiB if the system gives them."""
    page = mmap.PAGESIZE
    with contextlib.suppress(OSError):
        policy = Path(root, "sys/kernel/mm/transparent_hugepage/enabled").read_text("ascii")
        if hasattr(mmap, "MADV_HUGEPAGE") and "[never]" not in policy:
            page = HUGE_PAGE
    return -(-size // page) * page
