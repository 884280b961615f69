"""Rotary embedding and its table of cosines and sines."""

from __future__ import annotations

import numpy as np
import pytest
import reference

from ryzanstein_llm.kernels.elementwise import rope
from ryzanstein_llm.kernels.packing import rotary_powers, rotary_table

from . import steps
from .hard_floats import KINDS
from .same_bits import assert_same_bits


def frequencies(theta: float, head_dim: int) -> np.ndarray:
    return np.float32(1) / rotary_powers(theta, head_dim)


HEAD_DIMS = (2, 6, 16, 30, 32, 34, 64, 80, 96, 100, 128, 256)


@pytest.mark.usefixtures("tier")
@pytest.mark.parametrize("head_dim", HEAD_DIMS)
@pytest.mark.parametrize("kind", KINDS)
def test_rope_is_rotate_half(head_dim: int, kind: str, rng: np.random.Generator) -> None:
    cosines, sines = rotary_table(frequencies(10000.0, head_dim), 77, 78)
    for heads in (1, 3):
        x = KINDS[kind](rng, heads, head_dim)
        with np.errstate(all="ignore"):
            wanted = steps.rope(x, cosines[0], sines[0])
        assert_same_bits(rope(x, cosines[0], sines[0]), wanted)


@pytest.mark.usefixtures("tier")
def test_rope_agrees_with_its_definition(rng: np.random.Generator) -> None:
    x = rng.standard_normal((4, 80), np.float32)
    cosines, sines = rotary_table(frequencies(500000.0, 80), 4095, 4096)
    exact = reference.rope(x[None], [4095], 500000.0)[0]
    # two products and a sum of numbers up to |x|, with rounded cosines: 2 ulp of max|x|
    assert np.max(np.abs(rope(x, cosines[0], sines[0]) - exact)) <= 2.0**-22 * np.max(np.abs(x))


def test_rope_keeps_the_length_of_pairs(rng: np.random.Generator) -> None:
    x = rng.standard_normal((1, 64), np.float32)
    cosines, sines = rotary_table(frequencies(10000.0, 64), 1000, 1001)
    turned = rope(x, cosines[0], sines[0])
    before, after = (a[0, :32] ** 2 + a[0, 32:] ** 2 for a in (x, turned))
    np.testing.assert_allclose(after, before, rtol=1e-6)


@pytest.mark.parametrize("theta", [10000.0, 500000.0, 1e6])
@pytest.mark.parametrize("head_dim", [16, 64, 80, 128])
def test_table_is_the_rounded_cosine_of_the_rounded_angle(theta: float, head_dim: int) -> None:
    """Up to position 131,071; equal to correctly rounded but for rare double roundings."""
    for begin, end in ((0, 3000), (32700, 32800), (131000, 131072)):
        exact = reference.rope_tables(np.arange(begin, end), head_dim, theta)
        for found, wanted in zip(
            rotary_table(frequencies(theta, head_dim), begin, end), exact, strict=True
        ):
            rounded = wanted.astype(np.float32)
            assert found.dtype == np.float32
            assert np.mean(found != rounded) < 1e-5
            assert np.all(np.abs(found - wanted) <= np.spacing(np.abs(rounded)))


def test_table_of_position_zero_and_of_nothing() -> None:
    cosines, sines = rotary_table(frequencies(10000.0, 64), 0, 1)
    assert np.all(cosines == 1.0)
    assert not sines.any()
    assert rotary_table(frequencies(10000.0, 64), 5, 5)[0].shape == (0, 32)


def test_table_rows_do_not_depend_on_where_the_table_begins() -> None:
    whole = rotary_table(frequencies(500000.0, 80), 0, 1000)
    part = rotary_table(frequencies(500000.0, 80), 700, 1000)
    assert_same_bits(part, tuple(table[700:] for table in whole))
