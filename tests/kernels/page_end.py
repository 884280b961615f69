"""Arrays that end exactly where readable memory ends: one byte further is a crash.

Weights are read straight from memory-mapped files, so a kernel that loads a whole
vector at the last few elements would crash on some file some day.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

needs_page_protection = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="mprotect is called as Linux has it"
)


def at_page_end(array: npt.ArrayLike) -> npt.NDArray[Any]:
    """A writeable copy of `array` (C order) whose last byte is the last one readable."""
    source = np.asarray(array)
    page = mmap.PAGESIZE
    readable = max(1, -(-source.nbytes // page)) * page
    memory = mmap.mmap(-1, readable + page)
    raw = np.frombuffer(memory, np.uint8)  # keeps the mapping alive
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    if libc.mprotect(raw.ctypes.data + readable, page, 0) != 0:
        raise OSError(ctypes.get_errno(), "mprotect")
    copy = raw[readable - source.nbytes : readable].view(source.dtype).reshape(source.shape)
    copy[...] = source
    return copy
