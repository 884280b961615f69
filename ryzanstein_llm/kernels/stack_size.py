"""The size of the stacks of OpenMP workers."""

from __future__ import annotations

import re

__all__ = ["stack_size"]

_UNITS = {"": 1 << 10, "B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def stack_size(setting: str | None) -> int:
    """Bytes that a value of `OMP_STACKSIZE` means, such as "4M" or "512" (KiB); 0 if it is not set,
    or not understood."""
    found = re.fullmatch(r"\s*(\d+)\s*([BKMG]?)\s*", setting or "", re.IGNORECASE)
    if found is None:
        return 0
    size = int(found[1]) * _UNITS[found[2].upper()]
    return size if size < 1 << 48 else 0
