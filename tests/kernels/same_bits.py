"""Comparison of results that must be the same to the last bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from ryzanstein_llm.kernels import cpu

Array = npt.NDArray[Any]


def _bits(values: Any) -> Array:
    array = np.array(values)  # a copy, C order
    if array.dtype.kind == "f":
        # which NaN comes out of NaN and NaN is not promised, only that it is one
        array[np.isnan(array)] = np.nan
    return array.reshape(-1).view(np.uint8)


def assert_same_bits(actual: Any, expected: Any) -> None:
    """Arrays, numbers, or tuples of them: same dtype, shape and bits. -0 differs from +0."""
    if isinstance(expected, tuple):
        assert len(actual) == len(expected)
        for one, other in zip(actual, expected, strict=True):
            assert_same_bits(one, other)
        return
    found, wanted = np.asarray(actual), np.asarray(expected)
    assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
    if not np.array_equal(_bits(found), _bits(wanted)):
        per_item = (_bits(found) != _bits(wanted)).reshape(found.size, -1).any(axis=1)
        where = np.flatnonzero(per_item)
        first = np.unravel_index(where[0], found.shape)
        raise AssertionError(
            f"{where.size} of {found.size} values differ, the first at {first}: "
            f"{found[first]!r} instead of {wanted[first]!r}"
        )


def in_every_tier(compute: Callable[[], Any]) -> Any:
    """What `compute()` gives under the scalar tier, having seen the same bits under all others."""
    former = cpu.current_tier()
    try:
        cpu.use_tier("scalar")
        expected = compute()
        for name in cpu.available_tiers():
            cpu.use_tier(name)
            try:
                assert_same_bits(compute(), expected)
            except AssertionError as error:
                raise AssertionError(f"tier {name} differs from scalar: {error}") from None
    finally:
        cpu.use_tier(former)
    return expected
