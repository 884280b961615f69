"""Weights as blocks of ggml, the tensor library of llama.cpp: TQ2_0 and TQ1_0 (ternary), Q6_K.

A block is 256 consecutive weights of a row. Layouts are those of `block_tq2_0`, `block_tq1_0` and
`block_q6_K` in ggml-common.h; the tests read them back with `gguf.quants.dequantize`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ryzanstein_llm.formats import ternary_blocks

__all__ = ["BLOCK", "pack_q6_k", "pack_tq1_0", "pack_tq2_0"]

BLOCK = 256

Codes = NDArray[np.uint8]
Bytes = NDArray[np.uint8]


def pack_tq2_0(codes: Codes, scale: float) -> Bytes:
    """Ternary weights in 2.0625 bits with one scale for all blocks; see `ternary_blocks`.

    Parameters
    ----------
    codes : uint8 (rows, columns)
        Value + 1, so 0..2. `columns` is a multiple of 256.
    scale : float
        What -1 and +1 stand for. Stored as float16 in every block; one of bfloat16 precision is
        exact from 6.2e-5 to 65504.

    Returns
    -------
    uint8 (rows, columns / 256 * 66)

    Raises
    ------
    ValueError
        If shape, codes or scale cannot be stored.
    """
    blocks = _ternary_blocks(codes).shape[:2]
    return ternary_blocks.pack_tq2_0(codes, np.full(blocks, _half(scale)))


def pack_tq1_0(codes: Codes, scale: float) -> Bytes:
    """Ternary weights in 1.6875 bits: five to a byte (the last 16 of a block: four), then scale.

    A byte is the number 0.t0t1t2t3t4 in base 3, in units of 1/256 and rounded up, so that
    multiplying by 3 brings out one digit after the other. Parameters, errors: as `pack_tq2_0`.

    Returns
    -------
    uint8 (rows, columns / 256 * 54)
    """
    blocks = _ternary_blocks(codes)
    # 160 weights as 5 digits of 32 bytes, 80 as 5 of 16, 16 as 4 of 4
    parts = [
        _base_three(part.reshape(*part.shape[:2], digits, -1))
        for part, digits in zip(np.split(blocks, (160, 240), axis=2), (5, 5, 4), strict=True)
    ]
    return _with_scale(np.concatenate(parts, axis=2), scale)


def pack_q6_k(values: NDArray[np.float32]) -> Bytes:
    """Floats in 6.5625 bits: six each, int8 scales of 16 weights, a float16 for the block.

    Scales map the largest magnitude of 16 weights to 32 steps. llama.cpp's own quantiser searches
    for a scale with a slightly smaller error; size and speed are the same.

    Parameters
    ----------
    values : float32 (rows, columns)
        Finite. `columns` is a multiple of 256. The float16 of a block is exact to 0.1 % where its
        largest magnitude is above 0.13, and 0 where it is below 1.2e-4.

    Returns
    -------
    uint8 (rows, columns / 256 * 210)

    Raises
    ------
    ValueError
        If the shape does not fit.
    """
    rows = len(values)
    groups: NDArray[np.float32] = _blocks(values).reshape(rows, -1, 16, 16)
    extreme = np.take_along_axis(groups, np.abs(groups).argmax(axis=3)[..., None], axis=3)
    steps: NDArray[np.float32] = extreme[..., 0] / np.float32(
        -32
    )  # (rows, blocks, 16); signed: -32 is the far end
    largest = np.take_along_axis(steps, np.abs(steps).argmax(axis=2)[..., None], axis=2)
    unit = (largest / np.float32(-128)).astype(np.float16)  # (rows, blocks, 1)
    scales = np.rint(_divide(steps, unit.astype(np.float32))).clip(-128, 127).astype(np.int8)
    stored: NDArray[np.float32] = unit.astype(np.float32) * scales
    levels = np.rint(_divide(groups, stored[..., None])).clip(-32, 31) + np.float32(32)
    # per half block four runs of 32 weights
    q = levels.astype(np.uint8).reshape(rows, -1, 2, 4, 32)
    low = q & 15
    nibbles = low[..., :2, :] | low[..., 2:, :] << 4
    parts = [
        nibbles.reshape(rows, -1, 128),
        ternary_blocks.crumbs(q >> np.uint8(4)).reshape(rows, -1, 64),
        scales.view(np.uint8),
        unit.view(np.uint8),
    ]
    return np.concatenate(parts, axis=2).reshape(rows, -1)


def _blocks(matrix: NDArray[Any]) -> NDArray[Any]:
    """(rows, blocks, 256), or a complaint."""
    if matrix.ndim != 2 or not matrix.size or matrix.shape[1] % BLOCK:
        raise ValueError(f"rows of a multiple of {BLOCK} are needed, found shape {matrix.shape}")
    return matrix.reshape(len(matrix), -1, BLOCK)


def _ternary_blocks(codes: Codes) -> Codes:
    blocks = _blocks(codes)
    if codes.dtype != np.uint8 or int(codes.max()) > 2:
        raise ValueError(f"codes must be uint8 0..2, found {codes.dtype} up to {codes.max()}")
    return blocks


def _base_three(digits: NDArray[np.uint8]) -> Bytes:
    """(rows, blocks, digits, bytes) of 0..2 → (rows, blocks, bytes), first digit highest."""
    number = np.zeros((*digits.shape[:2], digits.shape[3]), np.uint16)
    for position in range(5):
        number *= 3
        if position < digits.shape[2]:
            number += digits[:, :, position]
    rounded_up: Bytes = ((number * np.uint16(256) + np.uint16(242)) // 243).astype(np.uint8)
    return rounded_up


def _with_scale(packed: Bytes, scale: float) -> Bytes:
    """Blocks (rows, blocks, bytes) with a float16 at the end of each, as rows of bytes."""
    half = np.array([_half(scale)])
    scales = np.broadcast_to(half.view(np.uint8), (*packed.shape[:2], 2))
    return np.concatenate([packed, scales], axis=2).reshape(len(packed), -1)


def _half(scale: float) -> np.float16:
    with np.errstate(over="ignore"):
        half = np.float16(scale)
    if not np.isfinite(half) or half <= 0:
        raise ValueError(f"a float16 scale above 0 is needed, found {scale!r}")
    return half


def _divide(values: NDArray[np.float32], by: NDArray[np.float32]) -> NDArray[np.float32]:
    """values / by; 0 where `by` is 0, as all values of such a group are (nearly) 0."""
    return np.divide(values, by, out=np.zeros_like(values), where=by != 0)
