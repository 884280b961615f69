"""Encodings of weights: bfloat16 bit patterns and the packed ternary layout of checkpoints."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import InvalidParameterError
from ..formats.ternary_blocks import pack_hf_codes
from ..validation import check_int

__all__ = ["from_bf16_bits", "pack_hf", "to_bf16_bits", "unpack_hf"]


def to_bf16_bits(values: ArrayLike) -> NDArray[np.uint16]:
    """float32 → bfloat16 bit patterns of the same shape, rounded to nearest, ties to even.

    Overflow gives infinity. A NaN stays a NaN (quiet, with its sign).
    """
    exact = np.ascontiguousarray(values, np.float32)
    bits = exact.view(np.uint32)
    # The sum carries exactly if the value has to be rounded up: it adds just under half a unit and
    # the lowest bit that is kept.
    rounded = (bits >> 16) & 1
    rounded += 0x7FFF
    rounded += bits
    rounded >>= 16
    result = rounded.astype(np.uint16)
    nan = np.isnan(exact)
    if nan.any():
        result[nan] = (bits[nan] >> 16 | 0x40).astype(np.uint16)
    return result.reshape(np.shape(values))


def from_bf16_bits(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    """bfloat16 bit patterns → float32 of the same shape (exact)."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def pack_hf(codes: NDArray[Any]) -> NDArray[np.uint8]:
    """Ternary codes (value + 1) in the packed layout of published BitNet checkpoints.

    With R = ceil(out / 4), byte [r, c] holds the codes of rows r, R + r, 2R + r and 3R + r of
    column c, lowest two bits first. Rows beyond `out` get code 0.

    Parameters
    ----------
    codes : ndarray of shape (out, in), integers 0..3
        3 is not a ternary value, but is packed unchanged, for tests of bad input.

    Returns
    -------
    ndarray of shape (ceil(out / 4), in), uint8

    Raises
    ------
    InvalidParameterError
        `codes` is no such matrix.
    """
    _check_matrix("codes", codes)
    if codes.size and not 0 <= int(codes.min()) <= int(codes.max()) <= 3:
        problem = f"must hold 0..3, not {int(codes.min())}..{int(codes.max())}"
        raise InvalidParameterError(problem, "codes")
    return pack_hf_codes(codes.astype(np.uint8))


def unpack_hf(packed: NDArray[np.uint8], rows: int) -> NDArray[np.uint8]:
    """The codes of a matrix that `pack_hf` packed.

    Parameters
    ----------
    packed : ndarray of shape (ceil(rows / 4), in), uint8
    rows : int

    Returns
    -------
    ndarray of shape (rows, in), uint8

    Raises
    ------
    InvalidParameterError
        `packed` is no such matrix, or a matrix with so many rows would be packed in another shape.
    """
    _check_matrix("packed", packed, np.uint8)
    most = 4 * len(packed)
    rows = check_int("rows", rows, max(0, most - 3), most)
    planes = [packed >> shift & 3 for shift in (0, 2, 4, 6)]
    return np.concatenate(planes)[:rows]


def _check_matrix(name: str, value: Any, dtype: type[np.integer[Any]] = np.integer) -> None:
    if not (
        isinstance(value, np.ndarray) and value.ndim == 2 and np.issubdtype(value.dtype, dtype)
    ):
        found = repr(value)
        if isinstance(value, np.ndarray):
            found = f"{value.dtype} of shape {value.shape}"
        kind = "integers" if dtype is np.integer else dtype.__name__
        raise InvalidParameterError(f"must be a matrix of {kind}, not {found}", name)
