"""exp and the weights of a softmax."""

from __future__ import annotations

import numpy as np
import pytest
import reference

from ryzanstein_llm.kernels.elementwise import exp, softmax_weights

from . import steps
from .same_bits import assert_same_bits

pytestmark = pytest.mark.usefixtures("tier")

LOWEST, HIGHEST = np.float32(-87.33654), np.float32(88.37626)
EXP_ULP = 2.0  # what ops/exp.h promises


def ulp_errors(x: np.ndarray) -> np.ndarray:
    exact = np.exp(x.astype(np.float64))
    return np.abs(exp(x) - exact) / np.spacing(exact.astype(np.float32))


def every(step: int, first: np.float32, last: np.float32) -> np.ndarray:
    """Every `step`-th float32 from first to last, both of one sign."""
    begin, end = (int(np.float32(v).view(np.uint32)) for v in (first, last))
    return np.arange(begin, end + 1, step, np.uint32).view(np.float32)


def test_exp_is_good_to_two_ulp_everywhere() -> None:
    for x in (every(1999, np.float32(0), HIGHEST), every(1999, np.float32(-0.0), LOWEST)):
        assert np.max(ulp_errors(x)) < EXP_ULP


def test_exp_at_the_ends_of_its_range() -> None:
    """The last 2,000 floats before each end, and around n + 1/2 where the reduction turns."""
    high, low = int(HIGHEST.view(np.uint32)), int(LOWEST.view(np.uint32))
    ends = np.r_[high - 2000 : high + 1, low - 2000 : low + 1].astype(np.uint32).view(np.float32)
    turns = (np.arange(-120, 127) + 0.5) * np.log(2.0)
    near = turns.astype(np.float32)[:, None] * (1 + np.arange(-8, 9) * np.float32(2.0**-23))
    assert np.max(ulp_errors(ends)) < EXP_ULP
    assert np.max(ulp_errors(near.astype(np.float32).reshape(-1))) < EXP_ULP


def test_exp_beyond_its_range() -> None:
    below = np.nextafter(LOWEST, np.float32(-np.inf))
    tiny = exp(np.array([below, -1e4, -np.inf, -np.finfo(np.float32).max], np.float32))
    assert_same_bits(tiny, np.zeros(4, np.float32))
    large = exp(np.array([HIGHEST, 88.5, 1e30, np.inf], np.float32))
    assert np.all(large == large[0])
    assert 2.4e38 < large[0] < 2.41e38
    assert np.isnan(exp(np.array([np.nan], np.float32)))[0]


def test_exp_of_zero_and_the_smallest_numbers_is_one() -> None:
    x = np.array([0.0, -0.0, 1e-45, -1e-45, 1e-38, -1e-38, 2.0**-26], np.float32)
    assert_same_bits(exp(x), np.ones(7, np.float32))


@pytest.mark.parametrize("size", [1, 2, 15, 16, 17, 33, 100, 1000, 32003])
def test_softmax_weights(size: int, rng: np.random.Generator) -> None:
    x = 5 * rng.standard_normal(size, np.float32)
    weights, total = softmax_weights(x)
    assert_same_bits(weights, exp(x - x.max()))
    assert_same_bits(np.float32(total), steps.lane_sum(weights))
    # x - max rounds once (half an ulp of up to 64), exp adds 2 ulp, the sum a few more
    np.testing.assert_allclose(weights / total, reference.softmax(x), rtol=6e-6, atol=0)


def test_softmax_weights_of_special_values() -> None:
    masked = np.array([1.0, -np.inf, 3.0] + [-np.inf] * 30, np.float32)
    weights, total = softmax_weights(masked)
    assert weights[1] == 0.0
    assert weights[2] == 1.0
    assert np.float32(total) == weights[0] + np.float32(1)
    huge = np.full(20, np.finfo(np.float32).max, np.float32)
    weights, total = softmax_weights(huge)
    assert np.all(weights == 1.0)
    assert total == 20.0
