"""How much memory keys and values may take."""

from __future__ import annotations

import os
from pathlib import Path

from ..interfaces.kv_layout import BLOCK_POSITIONS, KVLayout
from ..validation import check_int
from .cgroup import memory_limit

__all__ = ["cache_budget", "machine_memory"]

SHARE = 10
"""By default, all caches of a model together take at most a tenth of the memory."""


def machine_memory(root: str | os.PathLike[str] = "/") -> int | None:
    """Bytes of memory of this machine, or of what its control groups allow; None if unknown."""
    physical = None
    try:
        for line in Path(root, "proc/meminfo").read_text().splitlines():
            if line.startswith("MemTotal:"):
                physical = int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    allowed = memory_limit(root)
    known = [int(limit) for limit in (physical, allowed) if limit is not None]
    return min(known, default=None)


def cache_budget(requested: int | None, layout: KVLayout, context_length: int) -> int:
    """Bytes that all keys and values of a model may take together.

    Parameters
    ----------
    requested : int, optional
        At least one block. Default: a tenth of the memory, but at least one full context.
    layout : KVLayout
    context_length : int

    Raises
    ------
    InvalidParameterError
        If `requested` is not an integer, or less than a block.
    """
    if requested is not None:
        return check_int("prefix_cache_bytes", requested, layout.block_bytes, 1 << 62)
    whole = -(-context_length // BLOCK_POSITIONS) * layout.block_bytes
    return max(whole, (machine_memory() or 0) // SHARE)
