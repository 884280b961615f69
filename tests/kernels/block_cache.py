"""A key/value cache of the layout attention.pyx reads, written here from its docstring.

Unwritten memory is poisoned: every byte 0xff, which is NaN as float32 and bfloat16,
-1 as int8 and NaN as a scale. A kernel that lets an unseen position take part shows it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ryzanstein_llm.kernels import attention, packing
from ryzanstein_llm.kernels.workspace import Workspace

from . import steps

Float32 = npt.NDArray[np.float32]
BLOCK = 256
THETA = 10000.0
DTYPES: dict[str, Any] = {"float32": np.float32, "bfloat16": np.uint16, "int8": np.int8}


@dataclass(frozen=True)
class BlockLayout:
    """Bytes of one block: per layer K (kv_heads, head_dim, 256), V (kv_heads, 256, head_dim),
    then their scales (kv_heads, 256). int8: K (kv_heads, 16, head_dim / 4, 16, 4) plus 128, V
    (kv_heads, head_dim / 16, 64, 16, 4), with head_dim filled up."""

    kind: str
    kv_heads: int
    head_dim: int
    layers: int = 1

    @property
    def element_size(self) -> int:
        return int(np.dtype(DTYPES[self.kind]).itemsize)

    @property
    def key_depth(self) -> int:
        """Dimensions with which a key is stored."""
        return -(-self.head_dim // 4) * 4 if self.kind == "int8" else self.head_dim

    @property
    def value_depth(self) -> int:
        return -(-self.head_dim // 16) * 16 if self.kind == "int8" else self.head_dim

    @property
    def k_head_bytes(self) -> int:
        return BLOCK * self.key_depth * self.element_size

    @property
    def v_head_bytes(self) -> int:
        return BLOCK * self.value_depth * self.element_size

    @property
    def v_offset(self) -> int:
        return self.kv_heads * self.k_head_bytes

    @property
    def k_scale_offset(self) -> int:
        return self.v_offset + self.kv_heads * self.v_head_bytes

    @property
    def v_scale_offset(self) -> int:
        return self.k_scale_offset + 4 * self.kv_heads * BLOCK

    @property
    def layer_bytes(self) -> int:
        return self.v_scale_offset + 4 * self.kv_heads * BLOCK


class BlockCache:
    """Blocks in memory, each apart from the others."""

    def __init__(self, layout: BlockLayout, positions: int) -> None:
        self.layout = layout
        count = -(-positions // BLOCK)
        self.blocks = [np.full(layout.layers * layout.layer_bytes, 0xFF, np.uint8)
                       for _ in range(count)]  # fmt: skip
        self.table = np.array([block.ctypes.data for block in self.blocks], np.uint64)

    def _planes(self, layer: int, offset: int, dtype: Any, *shape: int) -> npt.NDArray[Any]:
        begin = layer * self.layout.layer_bytes + offset
        nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        return np.stack([b[begin : begin + nbytes].view(dtype).reshape(shape) for b in self.blocks])

    def stored(self, positions: int, layer: int = 0) -> tuple[npt.NDArray[Any], ...]:
        """K and V as stored, (positions, kv_heads, head_dim) in the kind's dtype, and their
        scales (positions, kv_heads)."""
        of, dtype = self.layout, DTYPES[self.layout.kind]
        if of.kind == "int8":
            k = self._planes(layer, 0, np.uint8, of.kv_heads, 16, of.key_depth // 4, 16, 4)
            k = k.transpose(0, 2, 4, 1, 3, 5).reshape(-1, BLOCK, of.kv_heads, of.key_depth)
            k = (k.astype(np.int64) - 128).astype(np.int8)
            v = self._planes(
                layer, of.v_offset, dtype, of.kv_heads, of.value_depth // 16, 64, 16, 4
            )
            v = v.transpose(0, 1, 3, 5, 2, 4).reshape(-1, of.kv_heads, BLOCK, of.value_depth)
            for padded in (k.reshape(-1, of.kv_heads, of.key_depth), v.transpose(0, 2, 1, 3)):
                padding = padded.reshape(-1, of.kv_heads, padded.shape[-1])[
                    :positions, :, of.head_dim :
                ]
                assert not padding.any()
            k, v = k[..., : of.head_dim], v[..., : of.head_dim]
        else:
            k = self._planes(layer, 0, dtype, of.kv_heads, of.head_dim, BLOCK).transpose(0, 3, 1, 2)
            v = self._planes(layer, of.v_offset, dtype, of.kv_heads, BLOCK, of.head_dim)
        scales = [
            self._planes(layer, offset, np.float32, of.kv_heads, BLOCK)
            .transpose(0, 2, 1).reshape(-1, of.kv_heads)[:positions]
            for offset in (of.k_scale_offset, of.v_scale_offset)
        ]  # fmt: skip
        shape = (-1, of.kv_heads, of.head_dim)
        v = v.transpose(0, 2, 1, 3)
        return k.reshape(shape)[:positions], v.reshape(shape)[:positions], *scales

    def widened(self, positions: int, layer: int = 0) -> tuple[npt.NDArray[np.float64], ...]:
        """K and V as the numbers they stand for, float64 (positions, kv_heads, head_dim)."""
        k, v, k_scale, v_scale = self.stored(positions, layer)
        if self.layout.kind == "float32":
            return k.astype(np.float64), v.astype(np.float64)
        if self.layout.kind == "bfloat16":
            return tuple((a.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
                         for a in (k, v))  # fmt: skip
        return tuple(a * s.astype(np.float64)[:, :, None] for a, s in ((k, k_scale), (v, v_scale)))


def rotary(head_dim: int, positions: int) -> tuple[Float32, Float32]:
    """Cosines and sines (positions, head_dim / 2)."""
    cosines, sines = packing.rotary_table(
        np.float32(1) / packing.rotary_powers(THETA, head_dim), 0, positions
    )
    return cosines, sines


def rotated(qkv: Float32, layout: BlockLayout, heads: int, position: int) -> tuple[Float32, ...]:
    """Rotated queries and keys and the values, each (n, heads or kv_heads, head_dim)."""
    rows, hd = len(qkv), layout.head_dim
    all_heads = qkv.reshape(rows, heads + 2 * layout.kv_heads, hd)
    cosines, sines = (t[position:, None, :] for t in rotary(hd, position + rows))
    turned = steps.rope(all_heads[:, : heads + layout.kv_heads], cosines, sines)
    return turned[:, :heads], turned[:, heads:], all_heads[:, heads + layout.kv_heads :]


def attend(qkv: Float32, sequences: list[tuple[int, int, BlockCache]], heads: int, *,
           n_threads: int = 1, layer: int = 0, scale: float | None = None,
           turned: bool = True) -> Float32:  # fmt: skip
    """One attention call; `sequences` are (rows, position, cache). qkv is left as it was, and with
    turned=False nothing is rotated."""
    layout = sequences[0][2].layout
    segments = [(rows, position, cache.table) for rows, position, cache in sequences]
    reach = max(rows + position for rows, position, _ in sequences)
    cosines, sines = rotary(layout.head_dim, reach)
    if not turned:
        cosines, sines = np.ones_like(cosines), np.zeros_like(sines)
    out = np.full((len(qkv), heads * layout.head_dim), np.nan, np.float32)
    attention.rope_append_attend(
        qkv.copy(), segments, layout, layer, heads, (cosines, sines),
        layout.head_dim**-0.5 if scale is None else scale, out, Workspace(n_threads),
    )  # fmt: skip
    return out


def attend_in_chunks(qkv: Float32, layout: BlockLayout, heads: int, chunk: int,
                     n_threads: int = 1) -> Float32:  # fmt: skip
    """A whole sequence from position 0, `chunk` rows a call."""
    cache = BlockCache(layout, len(qkv))
    parts = [
        attend(qkv[at : at + chunk], [(len(qkv[at : at + chunk]), at, cache)], heads,
               n_threads=n_threads)
        for at in range(0, len(qkv), chunk)
    ]  # fmt: skip
    return np.concatenate(parts)


def random_qkv(rng: np.random.Generator, rows: int, layout: BlockLayout, heads: int) -> Float32:
    """Queries, keys and values of `rows` tokens, standard normal."""
    width = (heads + 2 * layout.kv_heads) * layout.head_dim
    return rng.standard_normal((rows, width), np.float32)
