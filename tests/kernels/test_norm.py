"""RMSNorm, LayerNorm and int8 quantisation of activations."""

from __future__ import annotations

import numpy as np
import pytest
import reference

from ryzanstein_llm.kernels.elementwise import layer_norm, quantize, rms_norm

from . import steps
from .hard_floats import KINDS
from .same_bits import assert_same_bits

pytestmark = pytest.mark.usefixtures("tier")

SIZES = (1, 2, 15, 16, 17, 31, 33, 100, 2560, 6912)

# Sixteen lanes of n / 16 additions each: half an ulp of the sum apiece at worst, and far
# less in practice. 4 ulp of the largest output covers the sizes above.
FLOAT_TOLERANCE = 4 * 2.0**-23


def assert_close(actual: np.ndarray, exact: np.ndarray) -> None:
    assert np.max(np.abs(actual - exact)) <= FLOAT_TOLERANCE * np.max(np.abs(exact))


@pytest.mark.parametrize("size", SIZES)
def test_rms_norm(size: int, rng: np.random.Generator) -> None:
    x, gain = 3 * rng.standard_normal((2, size), np.float32)
    for weight in (gain, None):
        out = rms_norm(x, weight, 1e-5)
        assert_close(out, reference.rms_norm(x, weight, 1e-5))
        assert_same_bits(out, steps.rms_norm(x[None], weight, 1e-5)[0])


@pytest.mark.parametrize("size", SIZES)
def test_layer_norm(size: int, rng: np.random.Generator) -> None:
    x, gain, shift = 3 * rng.standard_normal((3, size), np.float32)
    for weight, bias in ((gain, shift), (gain, None), (None, shift), (None, None)):
        out = layer_norm(x, weight, bias, 1e-5)
        assert_same_bits(out, steps.layer_norm(x[None], weight, bias, 1e-5)[0])
        if size > 1:  # a single value minus its mean is 0
            assert_close(out, reference.layer_norm(x, weight, bias, 1e-5))


def test_layer_norm_far_from_zero() -> None:
    """Two passes: mean(x^2) - mean(x)^2 would lose every digit of this variance."""
    x = (1000 + np.arange(64) % 2).astype(np.float32)
    assert_close(layer_norm(x, None, None, 0.0), reference.layer_norm(x, None, None, 0.0))


@pytest.mark.parametrize("kind", KINDS)
def test_norms_of_any_magnitude(kind: str, rng: np.random.Generator) -> None:
    """Squares overflow to infinity or vanish as float32 has it."""
    for size in (16, 100):
        x, gain = KINDS[kind](rng, 2, size)
        with np.errstate(all="ignore"):
            wanted = steps.rms_norm(x[None], gain, 1e-6)[0]
            centred = steps.layer_norm(x[None], gain, x, 1e-6)[0]
        assert_same_bits(rms_norm(x, gain, 1e-6), wanted)
        assert_same_bits(layer_norm(x, gain, x, 1e-6), centred)


@pytest.mark.parametrize("size", SIZES)
def test_quantize(size: int, rng: np.random.Generator) -> None:
    x = rng.standard_normal(size, np.float32) * np.float32(7)
    codes, scale, total = quantize(x)
    wanted, wanted_scale = steps.quantize(x[None])
    assert_same_bits(codes, wanted[0].astype(np.int8))
    assert_same_bits(np.float32(scale), wanted_scale[0])
    assert total == codes.sum(dtype=np.int64)
    assert np.abs(codes).max() == 127


def test_quantize_agrees_with_its_definition(rng: np.random.Generator) -> None:
    """Codes of float32 and float64 arithmetic differ only next to a tie."""
    x = rng.standard_normal(6912, np.float32)
    codes, scale, _ = quantize(x)
    exact, step = reference.quantize_int8(x)
    apart = codes != exact
    assert np.count_nonzero(apart) <= 2
    assert np.all(np.abs(np.abs(x[apart] / step) % 1 - 0.5) < 1e-4)
    assert abs(scale / float(step[0]) - 1) < 2.0**-22  # two float32 roundings


def test_quantize_rounds_half_to_even() -> None:
    x = np.array([127, 0.5, 1.5, 2.5, 3.5, -0.5, -1.5, -2.5, 125.5, -126.5], np.float32)
    codes, scale, total = quantize(x)
    assert codes.tolist() == [127, 0, 2, 2, 4, 0, -2, -2, 126, -126]
    assert (scale, total) == (1.0, 131)


def test_quantize_floor() -> None:
    """Below 1e-5 the floor takes over: no division by zero, codes shrink to 0."""
    floor = np.float32(1e-5)
    for x in (np.zeros(20), np.full(20, 1e-30), np.full(20, 1e-42)):
        codes, scale, total = quantize(x.astype(np.float32))
        assert not codes.any()
        assert total == 0
        assert np.float32(scale) == floor / np.float32(127)
    codes, _, _ = quantize(np.array([floor, -floor, floor / 2], np.float32))
    assert codes.tolist()[:2] == [127, -127]


def test_quantize_largest_floats() -> None:
    largest = np.finfo(np.float32).max
    codes, scale, total = quantize(np.array([largest, -largest, largest / 2], np.float32))
    assert codes.tolist()[:2] == [127, -127]
    assert np.isfinite(scale)
    assert total == codes.sum(dtype=np.int64)
