"""The key/value cache of one sequence: a table of blocks of 256 positions.

Knows sizes and addresses; what is written at them is the kernels' business. Blocks
are taken as positions are used and given back by truncation.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import ContextOverflowError, SessionBusyError
from .kernels.attention import BLOCK_POSITIONS
from .kernels.packing import aligned_empty
from .notebook import as_html
from .validation import check_int

__all__ = ["KV_DTYPES", "KVCache", "KVLayout"]

# Accepted spellings of kv_dtype.
KV_DTYPES = {
    "float32": "float32",
    "f32": "float32",
    "bfloat16": "bfloat16",
    "bf16": "bfloat16",
    "int8": "int8",
}
_ELEMENT_SIZES = {"float32": 4, "bfloat16": 2, "int8": 1}


@dataclass(frozen=True)
class KVLayout:
    """Where things stand in a block, in bytes.

    A block holds, layer after layer: K as (kv_heads, head_dim, 256), V as (kv_heads, 256,
    head_dim), and for int8 the scales of K, then of V, as float32 (kv_heads, 256).

    Attributes
    ----------
    kind : "float32", "bfloat16" or "int8"
    layers, kv_heads, head_dim : int
    """

    kind: str
    layers: int
    kv_heads: int
    head_dim: int

    @cached_property
    def element_size(self) -> int:
        """Bytes of a stored number."""
        return _ELEMENT_SIZES[self.kind]

    @cached_property
    def v_offset(self) -> int:
        """Start of V within a layer."""
        return self.kv_heads * self.head_dim * BLOCK_POSITIONS * self.element_size

    @cached_property
    def k_scale_offset(self) -> int:
        """Start of K's scales within a layer (int8 only)."""
        return 2 * self.v_offset

    @cached_property
    def v_scale_offset(self) -> int:
        """Start of V's scales within a layer (int8 only)."""
        return self.k_scale_offset + self._scale_bytes

    @property
    def _scale_bytes(self) -> int:
        return 4 * self.kv_heads * BLOCK_POSITIONS if self.kind == "int8" else 0

    @cached_property
    def layer_bytes(self) -> int:
        """Bytes of one layer in a block."""
        return self.v_scale_offset + self._scale_bytes

    @cached_property
    def block_bytes(self) -> int:
        """Bytes of 256 positions in all layers."""
        return self.layers * self.layer_bytes

    @property
    def bytes_per_position(self) -> int:
        """Bytes a token takes in all layers."""
        return self.block_bytes // BLOCK_POSITIONS


class KVCache:
    """Keys and values of the tokens a sequence has been through.

    Parameters
    ----------
    layout : KVLayout
    context_length : int
        Positions it can hold at most.

    Attributes
    ----------
    length : int
        Positions that are filled.
    table : uint64 array of shape (blocks,)
        Addresses of the blocks.
    """

    def __init__(self, layout: KVLayout, context_length: int) -> None:
        self.layout = layout
        self.context_length = context_length
        self.length = 0
        self._lock = threading.Lock()
        self._blocks: list[NDArray[np.uint8]] = []
        self.table: NDArray[np.uint64] = np.empty(0, np.uint64)

    def claim(self) -> threading.Lock:
        """For `with cache.claim():` around a pass, whose kernels have the blocks' addresses.

        Raises
        ------
        SessionBusyError
            If another thread is at it.
        """
        if self._lock.locked():
            raise SessionBusyError("the cache is in use by another thread; give each its own")
        return self._lock  # two that come at the same moment take turns

    def reserve(self, positions: int) -> None:
        """Make room for `positions` in all, keeping what is there.

        Raises
        ------
        ContextOverflowError
            If that is more than the context length.
        """
        if positions > self.context_length:
            raise ContextOverflowError(positions, self.context_length)
        wanted = -(-positions // BLOCK_POSITIONS)
        if wanted <= len(self._blocks):
            return
        blocks = list(self._blocks)
        while len(blocks) < wanted:
            block = aligned_empty(self.layout.block_bytes)
            block.fill(0)  # attention computes on unused positions before it drops them
            blocks.append(block)
        self._take(blocks)

    def truncate(self, length: int) -> None:
        """Forget all positions from `length` on, and free their blocks.

        Raises
        ------
        InvalidParameterError
            If `length` is negative or beyond what is filled.
        SessionBusyError
            If a pass is using the cache.
        """
        with self.claim():
            self.cut(check_int("length", length, 0, self.length))

    def cut(self, length: int) -> None:
        """`truncate` for who has claimed the cache already."""
        self.length = length
        self._take(self._blocks[: -(-length // BLOCK_POSITIONS)])

    def _take(self, blocks: list[NDArray[np.uint8]]) -> None:
        table = np.array([block.ctypes.data for block in blocks], np.uint64)
        self._blocks, self.table = blocks, table

    @property
    def nbytes(self) -> int:
        """Bytes of all blocks held."""
        return sum(block.nbytes for block in self._blocks)

    def __len__(self) -> int:
        return self.length

    def _facts(self) -> dict[str, str]:
        return {
            "positions": f"{self.length} of {self.context_length}",
            "kind": self.layout.kind,
            "memory": f"{self.nbytes / 1e6:.1f} MB",
        }

    def __repr__(self) -> str:
        return "KVCache({positions} positions, {kind}, {memory})".format(**self._facts())

    def _repr_html_(self) -> str:
        return as_html("KVCache", self._facts())

    def __reduce__(self) -> Any:
        raise TypeError("a KVCache holds addresses and cannot be pickled or copied")
