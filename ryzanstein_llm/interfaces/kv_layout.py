"""Where the keys and values of 256 positions are in memory: sizes and offsets only."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

__all__ = ["BLOCK_FORM", "BLOCK_POSITIONS", "KV_DTYPES", "KVLayout", "Segment"]

BLOCK_POSITIONS = 256
"""Positions of a block, as attention computes them (RZ_BLOCK_POSITIONS in kernels.h)."""

BLOCK_FORM = "2"
"""What the bytes of a block mean; another one when that changes. Saved sessions say it."""

Segment = tuple[int, int, NDArray[np.uint64]]
"""What a pass computes of one sequence: number of rows, position of the first row, addresses of the
sequence's blocks."""

# Accepted spellings of kv_dtype.
KV_DTYPES = {
    "float32": "float32",
    "f32": "float32",
    "bfloat16": "bfloat16",
    "bf16": "bfloat16",
    "int8": "int8",
}
_ELEMENT_SIZES = {"float32": 4, "bfloat16": 2, "int8": 1}
_PANEL = 16  # lanes of a panel of an int8 block
_GROUP = 4  # neighbouring bytes of a lane


@dataclass(frozen=True)
class KVLayout:
    """Offsets and sizes in a block, in bytes.

    A block holds, layer after layer: K as (kv_heads, head_dim, 256) and V as (kv_heads, 256,
    head_dim). For int8 these are panels of 16 positions or dimensions, with four neighbouring
    dimensions or positions in a lane: K is (kv_heads, 16, ceil(head_dim / 4), 16, 4) and V is
    (kv_heads, ceil(head_dim / 16), 64, 16, 4); then come the scales of K and of V, each float32
    (kv_heads, 256).

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
    def k_head_bytes(self) -> int:
        """Bytes of a KV head's keys in a block."""
        return BLOCK_POSITIONS * self._padded(_GROUP) * self.element_size

    @cached_property
    def v_head_bytes(self) -> int:
        """Bytes of a KV head's values in a block."""
        return BLOCK_POSITIONS * self._padded(_PANEL) * self.element_size

    def _padded(self, multiple: int) -> int:
        return -(-self.head_dim // multiple) * multiple if self.kind == "int8" else self.head_dim

    @cached_property
    def v_offset(self) -> int:
        """Start of V within a layer."""
        return self.kv_heads * self.k_head_bytes

    @cached_property
    def k_scale_offset(self) -> int:
        """Start of K's scales within a layer (int8 only)."""
        return self.v_offset + self.kv_heads * self.v_head_bytes

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

    def clear_after(self, block: NDArray[np.uint8], positions: int) -> None:
        """Set everything in a block to zero that does not belong to its first `positions`."""
        for layer in block.reshape(self.layers, self.layer_bytes):
            size, heads = self.element_size, self.kv_heads
            keys, values = layer[: self.v_offset], layer[self.v_offset : self.k_scale_offset]
            if self.kind != "int8":
                keys = keys.reshape(heads * self.head_dim, BLOCK_POSITIONS * size)
                keys[:, positions * size :] = 0
                values.reshape(heads, -1)[:, positions * self.head_dim * size :] = 0
                continue
            panel, at = divmod(positions, _PANEL)
            keys = keys.reshape(heads, BLOCK_POSITIONS // _PANEL, -1, _PANEL, _GROUP)
            keys[:, panel : panel + 1, :, at:] = 0
            keys[:, panel + 1 :] = 0
            line, at = divmod(positions, _GROUP)
            values = values.reshape(-1, BLOCK_POSITIONS // _GROUP, _PANEL, _GROUP)
            values[:, line : line + 1, :, at:] = 0
            values[:, line + 1 :] = 0
            scales = layer[self.k_scale_offset :].reshape(2 * heads, 4 * BLOCK_POSITIONS)
            scales[:, 4 * positions :] = 0

    @property
    def bytes_per_position(self) -> int:
        """Bytes a token takes in all layers."""
        return self.block_bytes // BLOCK_POSITIONS
