"""The block types of GGUF that embeddings and heads are stored in, as float32.

A value is a product of an fp16 scale (11 significant bits) and small integers. In Q8_0, Q6_K and
Q4_0 it has at most 24 significant bits, so float32 holds it exactly. In Q4_K and Q5_K it is the
difference of two such products, each exact, and the subtraction rounds once, to the nearest even.
So each result is determined by the file, and equal to what ggml computes. (ggml-quants.c)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["BLOCK_FLOATS", "decode"]

Bytes = NDArray[np.uint8]
Float32 = NDArray[np.float32]

# Elements that are decoded at a time. Temporary arrays then fit into a cache of 2 MB.
SLICE = 1 << 16

# shifts, along the second last dimension
NIBBLES = np.array([[0], [4]], np.uint8)
PAIRS = np.array([[0], [2], [4], [6]], np.uint8)
BITS = np.arange(8, dtype=np.uint8)[:, None]


def decode(dtype: str, raw: Bytes, shape: tuple[int, ...]) -> Float32:
    """The values of a tensor, read-only float32 of `shape`. Besides them, little memory is used.

    Parameters
    ----------
    dtype : key of BLOCK_FLOATS
    raw : uint8 (nbytes,)
        The bytes of the tensor.
    shape
        The product of its sizes is a multiple of the elements of a block.
    """
    elements, nbytes, function = BLOCK_FLOATS[dtype]
    out = np.empty(math.prod(shape), np.float32)
    values, blocks = out.reshape(-1, elements), raw.reshape(-1, nbytes)
    step = SLICE // elements
    with np.errstate(invalid="ignore", over="ignore"):  # a scale may be NaN; the loader looks
        for begin in range(0, len(blocks), step):
            part = blocks[begin : begin + step]
            values[begin : begin + step] = function(part).reshape(-1, elements)
    out.flags.writeable = False
    return out.reshape(shape)


def _scale(part: Bytes, at: int) -> Float32:
    """The fp16 at byte `at` of each of n blocks: float32 (n, 1)."""
    scale = np.ascontiguousarray(part[:, at : at + 2]).view("<f2")
    return scale.astype(np.float32)


def _fields(data: Bytes, shifts: Bytes, mask: int) -> Bytes:
    """The bits of `mask` of each byte after each shift."""
    return (data >> shifts) & np.uint8(mask)


def _joined(low: Any, high: Any) -> Bytes:
    """Codes from their low four bits and those above."""
    codes: Bytes = low | high << np.uint8(4)
    return codes


def _q8_0(part: Bytes) -> Float32:
    """fp16 d, int8 q[32]: d * q."""
    return _scale(part, 0) * part[:, 2:].view(np.int8).astype(np.float32)


def _q4_0(part: Bytes) -> Float32:
    """fp16 d, qs[16]: d * (code - 8). Element i is in the low half of byte i, 16 + i in the
    high."""
    codes = _fields(part[:, None, 2:], NIBBLES, 15)
    return _scale(part, 0) * (codes.reshape(-1, 32).astype(np.float32) - np.float32(8))


def _q4_k(part: Bytes) -> Float32:
    """fp16 d, fp16 dmin, scales[12], qs[128]: 8 groups of 32, d * scale * code - dmin * min. Byte i
    of each 32 of qs holds element i of one group in the low half, of the next in the high."""
    codes = _fields(part[:, 16:].reshape(-1, 4, 1, 32), NIBBLES, 15)
    return _scaled_groups(part, codes.reshape(-1, 8, 32))


def _q5_k(part: Bytes) -> Float32:
    """As Q4_K, with qh[32] before qs: bit g of byte i is the fifth bit of element i of group g."""
    low = _fields(part[:, 48:].reshape(-1, 4, 1, 32), NIBBLES, 15)
    high = _fields(part[:, None, 16:48], BITS, 1)
    return _scaled_groups(part, _joined(low.reshape(-1, 8, 32), high))


def _scaled_groups(part: Bytes, codes: Bytes) -> Float32:
    """d * scale * code - dmin * min for uint8 codes (n, 8, 32). Scales and minima have six bits,
    packed into bytes 4 to 15 of the block: those of groups 4 to 7 lend two bits of the others."""
    packed = part[:, 4:16]
    first, second, third = packed[:, :4], packed[:, 4:8], packed[:, 8:]
    scales = np.concatenate([first & 63, _joined(third & 15, first >> 6)], axis=1)
    minima = np.concatenate([second & 63, _joined(third >> 4, second >> 6)], axis=1)
    steps = (_scale(part, 0) * scales.astype(np.float32))[:, :, None]
    below = (_scale(part, 2) * minima.astype(np.float32))[:, :, None]
    return steps * codes.astype(np.float32) - below


def _q6_k(part: Bytes) -> Float32:
    """ql[128], qh[64], int8 scales[16], fp16 d: 16 groups of 16, d * scale * (code - 32).

    For each half of 128 elements: byte i of 64 of ql holds the low four bits of elements i and
    64 + i, and byte i of 32 of qh the high two bits of elements i, 32 + i, 64 + i and 96 + i."""
    low = _fields(part[:, :128].reshape(-1, 2, 1, 64), NIBBLES, 15)
    high = _fields(part[:, 128:192].reshape(-1, 2, 1, 32), PAIRS, 3)
    codes = _joined(low.reshape(-1, 16, 16), high.reshape(-1, 16, 16)).astype(np.float32)
    scales = part[:, 192:208].view(np.int8).astype(np.float32)
    steps = _scale(part, 208) * scales
    return steps[:, :, None] * (codes - np.float32(32))


# dtype -> elements of a block, bytes of a block, and what decodes uint8 (n, bytes)
BLOCK_FLOATS: dict[str, tuple[int, int, Callable[[Bytes], Float32]]] = {
    "Q4_0": (32, 18, _q4_0),
    "Q8_0": (32, 34, _q8_0),
    "Q4_K": (256, 144, _q4_k),
    "Q5_K": (256, 176, _q5_k),
    "Q6_K": (256, 210, _q6_k),
}
