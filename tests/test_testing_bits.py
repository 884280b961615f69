"""`ryzanstein_llm.testing`: packed ternary codes and bfloat16 bit patterns."""

from __future__ import annotations

import math
import zlib
from typing import Any

import numpy as np
import pytest

from ryzanstein_llm.errors import InvalidParameterError
from ryzanstein_llm.testing import from_bf16_bits, pack_hf, to_bf16_bits, unpack_hf


def test_pack_hf_gives_the_published_bytes() -> None:
    j = np.arange(32)
    codes = ((j * j + j // 5) % 3).astype(np.uint8).reshape(8, 4)
    packed = pack_hf(codes)
    assert packed.shape == (2, 4)
    assert packed.tobytes().hex(" ") == "58 15 01 90 29 12 21 62"
    assert zlib.crc32(packed.tobytes()) == 0x21E6F2FB


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 7, 8, 640])
def test_pack_hf_strides_over_the_rows(rows: int) -> None:
    codes = np.random.default_rng(rows).integers(0, 3, (rows, 5), np.uint8)
    packed = pack_hf(codes)
    stride = -(-rows // 4)
    assert packed.shape == (stride, 5)
    for row in range(rows):
        assert np.array_equal(packed[row % stride] >> 2 * (row // stride) & 3, codes[row])
    assert np.array_equal(unpack_hf(packed, rows), codes)


@pytest.mark.parametrize(
    ("codes", "found"),
    [
        (np.zeros(4, np.uint8), "uint8 of shape (4,)"),
        (np.full((4, 2), 0.5), "float64 of shape (4, 2)"),
        ([[1]], "[[1]]"),
        (np.full((4, 2), 4), "4..4"),
        (np.full((4, 2), -1), "-1..-1"),
    ],
)
def test_pack_hf_refuses_what_is_no_code(codes: Any, found: str) -> None:
    with pytest.raises(InvalidParameterError, match="codes must") as caught:
        pack_hf(codes)
    assert str(caught.value).endswith(f"not {found}")


@pytest.mark.parametrize("packed", [b"ab", np.zeros(3, np.uint8), np.zeros((2, 2), np.int32)])
def test_unpack_hf_refuses_what_is_not_packed(packed: Any) -> None:
    with pytest.raises(InvalidParameterError, match="packed must be a matrix of uint8, not"):
        unpack_hf(packed, 4)


def test_unpack_hf_refuses_numbers_of_rows_that_are_packed_otherwise() -> None:
    packed = np.zeros((2, 3), np.uint8)
    for rows in (5, 8):
        assert unpack_hf(packed, rows).shape == (rows, 3)
    for wrong in (4, 9, -1, "z", 5.0):
        with pytest.raises(InvalidParameterError, match="rows must be") as caught:
            unpack_hf(packed, wrong)  # type: ignore[arg-type]
        assert repr(wrong) in str(caught.value)


@pytest.mark.parametrize(
    ("value", "bits"),
    [
        (1.0, 0x3F80),
        (-0.0, 0x8000),
        (1 + 2**-8, 0x3F80),  # a tie goes to the even neighbour, below
        (1 + 3 * 2**-8, 0x3F82),  # and above
        (1 + 2**-8 + 2**-20, 0x3F81),
        (1e-38, 0x006D),  # subnormal
        (3.4e38, 0x7F80),
        (math.inf, 0x7F80),
        (-math.inf, 0xFF80),
    ],
)
def test_bfloat16_rounds_to_nearest_even(value: float, bits: int) -> None:
    assert to_bf16_bits(np.float32([value])).tolist() == [bits]


def test_bfloat16_keeps_nan_and_every_bit_pattern() -> None:
    patterns = np.arange(1 << 16, dtype=np.uint16)
    values = from_bf16_bits(patterns)
    back = to_bf16_bits(values)
    number = ~np.isnan(values)
    assert np.array_equal(back[number], patterns[number])
    assert np.isnan(from_bf16_bits(back[~number])).all()
    low_nan = np.array([0x7F800001, 0xFFFFFFFF], np.uint32).view(np.float32)
    assert np.isnan(from_bf16_bits(to_bf16_bits(low_nan))).all()
