"""A copy of a tier's table of kernels, in which a test can replace entries."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ryzanstein_llm.kernels import cpu

KERNELS_H = Path(__file__).parents[2] / "include" / "ryzanstein" / "kernels.h"

COUNTS = {"RZ_FLOAT_KINDS": 3, "RZ_ACTIVATIONS": 4, "RZ_KV_KINDS": 3}

TYPES: dict[str, Any] = {
    "float": ctypes.c_float,
    "int64_t": ctypes.c_int64,
    "uint64_t": ctypes.c_uint64,
    "rz_output_mode": ctypes.c_int,
    "void": None,
}


@dataclass(frozen=True)
class Entry:
    """A member of rz_kernels: `count` functions from byte `offset` on."""

    name: str
    offset: int
    count: int
    returns: Any
    arguments: tuple[Any, ...]

    def function(self, address: int) -> Any:
        return ctypes.CFUNCTYPE(self.returns, *self.arguments)(address)


def entries() -> dict[str, Entry]:
    """The functions of rz_kernels, as kernels.h declares them."""
    text = re.sub(r"/\*.*?\*/", "", KERNELS_H.read_text(encoding="utf-8"), flags=re.S)
    body = text.partition("typedef struct rz_kernels {")[2].partition("} rz_kernels;")[0]
    found, offset = {}, 0
    for declaration in filter(None, (" ".join(one.split()) for one in body.split(";"))):
        match = re.fullmatch(r"(\w+) \(\*(\w+)(?:\[(\w+)\])?\)\((.*)\)", declaration)
        if match is None:  # tier, whole_layout (an enum, padded), peak_products
            offset += 8
            continue
        returns, name, count, arguments = match.groups()
        kinds = tuple(
            ctypes.c_void_p if "*" in one else TYPES[one.split()[0]]
            for one in arguments.split(", ")
        )
        entry = Entry(name, offset, COUNTS[count] if count else 1, TYPES[returns], kinds)
        found[name] = entry
        offset += 8 * entry.count
    assert offset == cpu.TABLE_BYTES, "rz_kernels has another layout than this parser believes"
    return found


class TableCopy:
    """A copy of the table of a tier."""

    def __init__(self, tier: str) -> None:
        self._buffer = ctypes.create_string_buffer(
            ctypes.string_at(cpu.Table(tier).address, cpu.TABLE_BYTES), cpu.TABLE_BYTES
        )
        self._kept: list[Any] = []  # callbacks have to stay alive

    def _slot(self, entry: Entry, index: int) -> Any:
        return ctypes.c_void_p.from_buffer(self._buffer, entry.offset + 8 * index)

    def has(self, entry: Entry, index: int = 0) -> bool:
        """Whether the tier has this kernel."""
        return bool(self._slot(entry, index).value)

    def replace(
        self, entry: Entry, index: int, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]
    ) -> None:
        """Put `wrap(original)` in the place of a kernel."""
        slot = self._slot(entry, index)
        callback = ctypes.CFUNCTYPE(entry.returns, *entry.arguments)(
            wrap(entry.function(slot.value))
        )
        self._kept.append(callback)
        slot.value = ctypes.cast(callback, ctypes.c_void_p).value

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """All compute calls of the process use this table within a `with` block."""
        former = cpu.current_tier()
        cpu.use_table(ctypes.addressof(self._buffer))
        try:
            yield
        finally:
            cpu.use_tier(former)
