"""How much memory there is, and how much of it keys and values may take."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path

from ..interfaces.kv_layout import BLOCK_POSITIONS, KVLayout
from ..text_table import format_bytes
from ..validation import check_int
from .cgroup import memory_limits

__all__ = ["MemoryLimit", "cache_budget", "machine_memory", "memory_limit"]

log = logging.getLogger(__name__)

SHARE = 10
"""By default, all caches of a model together take at most a tenth of the memory."""


@dataclass(frozen=True)
class MemoryLimit:
    """The memory that this process can have.

    Attributes
    ----------
    nbytes : int
    swap : int
        Bytes of swap that it may use on top.
    source : str
        What sets the limit: "this machine", a file of a control group, or "RLIMIT_AS" or
        "RLIMIT_DATA" (`ulimit -v` and `-d`).
    """

    nbytes: int
    swap: int
    source: str

    @property
    def total(self) -> int:
        """Memory and swap."""
        return self.nbytes + self.swap


def memory_limit(root: str | os.PathLike[str] = "/") -> MemoryLimit | None:
    """The limit of this process that is the tightest: of the machine, of control groups of either
    version and their parents, and of the process itself. None if nothing is known.

    Parameters
    ----------
    root : path
        Where `/proc` and `/sys` are found.
    """
    machine = _meminfo(root)
    swap = machine.get("SwapTotal", 0)
    found = [
        MemoryLimit(group.nbytes, swap if group.swap is None else min(swap, group.swap),
                    "/" + os.path.relpath(group.file, root))
        for group in memory_limits(root)
    ]  # fmt: skip
    if "MemTotal" in machine:
        found.append(MemoryLimit(machine["MemTotal"], swap, "this machine"))
    found += _process_limits()
    return min(found, key=lambda limit: limit.total, default=None)


def machine_memory(root: str | os.PathLike[str] = "/") -> int | None:
    """Bytes of memory of this machine, or of what its control groups allow; None if unknown."""
    known = [group.nbytes for group in memory_limits(root)]
    if (physical := _meminfo(root).get("MemTotal")) is not None:
        known.append(physical)
    return min(known, default=None)


def _meminfo(root: str | os.PathLike[str]) -> dict[str, int]:
    """MemTotal and SwapTotal in bytes, as far as they are known."""
    found = {}
    try:
        for line in Path(root, "proc/meminfo").read_text().splitlines():
            name, _, rest = line.partition(":")
            if name in ("MemTotal", "SwapTotal"):
                found[name] = int(rest.split()[0]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return found


def _process_limits() -> list[MemoryLimit]:
    try:
        import resource
    except ImportError:  # Windows
        return []
    found = []
    for name in ("RLIMIT_AS", "RLIMIT_DATA"):
        limit, _ = resource.getrlimit(getattr(resource, name))
        if limit != resource.RLIM_INFINITY and limit >= 0:
            found.append(MemoryLimit(limit, 0, name))
    return found


def cache_budget(
    requested: int | None, layout: KVLayout, context_length: int, taken: int = 0
) -> int:
    """Bytes that all keys and values of a model may take together.

    Parameters
    ----------
    requested : int, optional
        At least one block. Default: a tenth of the memory, but at least one full context, if that
        fits the memory.
    layout : KVLayout
    context_length : int
    taken : int
        Bytes that the model takes without keys and values, and that the system cannot reclaim.

    Raises
    ------
    InvalidParameterError
        If `requested` is not an integer, or less than a block.
    """
    if requested is not None:
        return check_int("prefix_cache_bytes", requested, layout.block_bytes, 1 << 62)
    whole = -(-context_length // BLOCK_POSITIONS) * layout.block_bytes
    limit = memory_limit()
    if limit is not None and whole > limit.total - taken:
        room = max(layout.block_bytes, limit.total - taken)
        log.warning(
            "keys and values of %s tokens (context_length) take %s as %s, and %s leaves %s: texts "
            "of more than %s tokens will be refused; kv_dtype='int8' takes least",
            f"{context_length:,}",
            format_bytes(whole),
            layout.kind,
            limit.source,
            format_bytes(room),
            f"{room // layout.block_bytes * BLOCK_POSITIONS:,}",
        )
        return room
    return max(whole, (machine_memory() or 0) // SHARE)
