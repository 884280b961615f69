"""Inputs of the self-test: random numbers, and the worst ones."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "DISTINCT",
    "Array",
    "Arrays",
    "Random",
    "floats",
    "floats_as",
    "kv_arrays",
    "packed_codes",
    "repeated",
    "token_codes",
    "valid_bytes",
]

DISTINCT = 4
"""Number of tokens of `token_codes`."""

BLOCK_POSITIONS = 256  # of a KV cache; see kernels.h

# Bytes of four codes from 0 to 2, for each byte of random bits.
_SHIFTS = 4 ** np.arange(4)
_VALID = ((np.arange(256)[:, None] % 81 // 3 ** np.arange(4) % 3) * _SHIFTS).sum(axis=1)
VALID = _VALID.astype(np.uint8)

Random = np.random.Generator
Float32 = NDArray[np.float32]
Array = NDArray[Any]
Arrays = list[Array]


def floats(random: Random, rows: int, columns: int, span: int = 30) -> Float32:
    """float32 (rows, columns): in turn rows of numbers near 1, of magnitudes from 2^-span to
    2^span, and of subnormal ones."""
    bits = random.integers(0, 1 << 32, (rows, columns), np.uint32) & np.uint32(0x807FFFFF)
    wide = bits[1::3]
    bits[0::3] |= np.uint32(0x3F800000)
    wide |= random.integers(127 - span, 127 + span, wide.shape, np.uint32) << np.uint32(23)
    return bits.view(np.float32)


def floats_as(random: Random, rows: int, columns: int, kind: str) -> NDArray[np.generic]:
    """Such numbers as "F32", "F16" or "BF16" (the last as uint16)."""
    if kind == "F16":  # all magnitudes up to 2
        bits = random.integers(0, 1 << 16, (rows, columns), np.uint16) & np.uint16(0xBBFF)
        return bits.view(np.float16)
    values = floats(random, rows, columns)
    if kind == "F32":
        return values
    return (values.view(np.uint32) >> np.uint32(16)).astype(np.uint16)


def token_codes(random: Random, columns: int, stride: int) -> NDArray[np.int8]:
    """int8 (DISTINCT, stride): random, all 127, all -127, and sparse, with zeros past the
    columns."""
    codes = np.zeros((DISTINCT, stride), np.int8)
    codes[0, :columns] = random.integers(-127, 128, columns, np.int8)
    codes[1, :columns], codes[2, :columns], codes[3, :columns:5] = 127, -127, -127
    return codes


def repeated(tokens: NDArray[Any], n: int) -> NDArray[Any]:
    """n tokens, in turn those that are given."""
    return np.ascontiguousarray(tokens[np.arange(n) % len(tokens)])


def valid_bytes(random: Random, rows: int, columns: int) -> NDArray[np.uint8]:
    """uint8 (rows, columns), each four ternary codes."""
    return np.take(VALID, random.integers(0, 256, (rows, columns), np.uint8))


def packed_codes(random: Random, rows: int, columns: int) -> NDArray[np.uint8]:
    """Ternary codes in the Hugging Face form, for `packing.pack_hf`. Of four rows, one has only +1,
    one only -1, and one only 0."""
    packed = valid_bytes(random, (rows + 3) // 4, columns)
    packed[0] = packed[0] & 0xC0 | 0b010010
    return packed


def kv_arrays(random: Random, which: str, head_dim: int) -> tuple[NDArray[np.generic], ...]:
    """K and V of a block of the cache, and their scales (2, positions)."""
    size = head_dim * BLOCK_POSITIONS
    scales = random.uniform(0.001, 1, (2, BLOCK_POSITIONS)).astype(np.float32)
    if which == "int8":
        k, v = random.integers(-127, 128, (2, size), np.int8)
        return k, v, scales
    kind = "F32" if which == "float32" else "BF16"
    return floats_as(random, 1, size, kind)[0], floats_as(random, 1, size, kind)[0], scales
