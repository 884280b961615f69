"""Ternary weights as the bytes of files: TQ2_0 and I2_S of GGUF, and the packed form of
Hugging Face. Codes are values + 1: 0, 1, 2."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["crumbs", "pack_hf_codes", "pack_i2_s", "pack_tq2_0"]

Bytes = NDArray[np.uint8]


def pack_tq2_0(codes: Bytes, scales: NDArray[np.float16]) -> Bytes:
    """Blocks of 256 weights: four to a byte, then the scale of the block (`block_tq2_0` of
    ggml-common.h). Of each half block, byte j holds weights j, 32 + j, 64 + j and 96 + j, lowest
    bits first.

    Parameters
    ----------
    codes : uint8 (rows, columns)
        `columns` is a multiple of 256.
    scales : float16 (rows, columns / 256)
        What -1 and +1 stand for.

    Returns
    -------
    uint8 (rows, columns / 256 * 66)
    """
    rows = len(codes)
    packed = crumbs(codes.reshape(rows, -1, 2, 4, 32)).reshape(rows, -1, 64)
    ends = np.ascontiguousarray(scales, "<f2").view(np.uint8).reshape(rows, -1, 2)
    return np.concatenate([packed, ends], axis=2).reshape(rows, -1)


def pack_i2_s(codes: Bytes, scale: float) -> Bytes:
    """The form of bitnet.cpp on x86 (`quantize_i2_s`): of each 128 weights, byte j of 32 holds
    weights j, 32 + j, 64 + j and 96 + j, highest bits first; after all rows the scale as float32
    and 28 bytes of padding.

    Parameters
    ----------
    codes : uint8 (rows, columns)
        `columns` is a multiple of 128.

    Returns
    -------
    uint8 (rows * columns / 4 + 32,)
    """
    packed = crumbs(codes.reshape(-1, 4, 32)[:, ::-1]).reshape(-1)
    end = np.zeros(8, "<f4")
    end[0] = scale
    return np.concatenate([packed, end.view(np.uint8)])


def pack_hf_codes(codes: Bytes) -> Bytes:
    """The packed form of transformers: with R = ceil(rows / 4), byte [r, c] holds the codes of rows
    r, R + r, 2R + r and 3R + r of column c, lowest bits first. Rows beyond the last get code 0.

    Parameters
    ----------
    codes : uint8 (rows, columns)

    Returns
    -------
    uint8 (ceil(rows / 4), columns)
    """
    rows, columns = codes.shape
    padded = np.zeros((-(-rows // 4) * 4, columns), np.uint8)
    padded[:rows] = codes
    return crumbs(padded.reshape(4, -1)).reshape(-1, columns)


def crumbs(values: NDArray[Any]) -> Bytes:
    """(..., 4, n) of 0..3 to (..., n), the first in the lowest bits."""
    packed: Bytes = values[..., 3, :].astype(np.uint8)
    for position in (2, 1, 0):
        packed <<= 2
        packed |= values[..., position, :]
    return packed
