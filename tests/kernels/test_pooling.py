"""The steps from hidden states to an embedding: sums of normed rows, lengths, divisions."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ryzanstein_llm.kernels.elementwise import (
    add_rms_norms,
    divided,
    euclidean_length,
    rms_norm,
)

from .same_bits import assert_same_bits

pytestmark = pytest.mark.usefixtures("tier")

SIZES = (1, 2, 15, 16, 17, 33, 640, 1024)


@pytest.mark.parametrize("size", SIZES)
def test_normed_rows_are_added_in_order(size: int, rng: np.random.Generator) -> None:
    rows = (3 * rng.standard_normal((9, size))).astype(np.float32)
    weight = rng.standard_normal(size).astype(np.float32)
    total = rng.standard_normal(size).astype(np.float32)
    expected = total.copy()
    for row in rows:
        expected = expected + rms_norm(row, weight, 1e-6)
    add_rms_norms(total, rows[:4], weight, 1e-6)
    add_rms_norms(total, rows[4:4], weight, 1e-6)
    add_rms_norms(total, rows[4:], weight, 1e-6)
    assert_same_bits(total, expected)


def test_rows_that_do_not_fit_a_sum() -> None:
    total, row, weight = (
        np.zeros(3, np.float32),
        np.ones((1, 3), np.float32),
        np.ones(3, np.float32),
    )
    for rows, weights in ((row[:, :2].copy(), weight), (row, weight[:2])):
        with pytest.raises(ValueError, match="do not fit a sum of 3"):
            add_rms_norms(total, rows, weights, 1e-6)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scale", [1e-40, 1e-20, 1.0, 1e30])
def test_a_length_is_added_in_double(size: int, scale: float, rng: np.random.Generator) -> None:
    x = (scale * rng.standard_normal(size)).astype(np.float32)
    total = 0.0
    for value in x.tolist():
        total += value * value
    assert euclidean_length(x) == math.sqrt(total)
    assert euclidean_length(np.zeros(size, np.float32)) == 0


def test_a_length_that_float32_could_not_square() -> None:
    assert euclidean_length(np.full(4, 2.0**120, np.float32)) == 2.0**121
    assert euclidean_length(np.full(4, 2.0**-120, np.float32)) == 2.0**-119


@pytest.mark.parametrize("divisor", [1.0, 3.0, 7.0, 1e-12, 0.1, 32768.0])
def test_a_division_is_rounded_once(divisor: float, rng: np.random.Generator) -> None:
    x = rng.standard_normal(100).astype(np.float32)
    assert_same_bits(divided(x, divisor), (x.astype(np.float64) / divisor).astype(np.float32))


def test_a_division_by_an_integer_is_that_of_float32(rng: np.random.Generator) -> None:
    x = rng.standard_normal(1000).astype(np.float32)
    for count in (1, 3, 7, 11, 257, 8191, 32768):
        assert_same_bits(divided(x, count), x / np.float32(count))


def test_nothing_is_divided_by_zero() -> None:
    with pytest.raises(ValueError, match="0"):
        divided(np.ones(1, np.float32), 0.0)
