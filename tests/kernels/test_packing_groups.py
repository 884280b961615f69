"""Matrices with scales of groups of columns: where codes and scales are, and rows as floats."""

from __future__ import annotations

import numpy as np
import pytest

from ryzanstein_llm.kernels import packing
from ryzanstein_llm.kernels.encodings import Problem
from ryzanstein_llm.kernels.sources import TernarySource

from .group_cases import GROUP_LAYOUTS, assert_holds_groups
from .same_bits import assert_same_bits

SHAPES = [(1, 1), (2, 64), (3, 63), (15, 65), (16, 128), (17, 129), (33, 300), (65, 192),
          (100, 640), (5, 2560)]  # fmt: skip


def floats_of(t: np.ndarray, scales: np.ndarray, group: int) -> np.ndarray:
    by_column = np.repeat(scales, group, axis=1)[:, : t.shape[1]]
    return (t * by_column).astype(np.float16)


def random_groups(
    shape: tuple[int, int], group: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """t, and scales that are all different fp16 numbers; no group is all zeros."""
    t = rng.integers(-1, 2, shape, np.int8)
    t[:, ::group] = 1
    groups = -(-shape[1] // group)
    numbers = rng.permutation(0x7BFF)[: shape[0] * groups].astype(np.uint16) + np.uint16(1)
    return t, numbers.view(np.float16).reshape(shape[0], groups)


@pytest.mark.parametrize("layout", GROUP_LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("n_threads", [1, 2, 3])
def test_every_weight_and_scale_has_its_place(
    shape: tuple[int, int], n_threads: int, layout: str, rng: np.random.Generator
) -> None:
    """Any fp16 scales, odd numbers of groups, tails of rows and columns."""
    group = GROUP_LAYOUTS[layout]
    t, scales = random_groups(shape, group, rng)
    source = TernarySource(
        "ternary_floats", floats_of(t, scales, group), *shape, kind="F16", group=group
    )
    codes, problem = packing.pack_source(source, n_threads, layout=layout)
    assert problem is None
    assert_holds_groups(codes, t, scales, layout)


@pytest.mark.parametrize("layout", GROUP_LAYOUTS)
def test_nothing_of_the_memory_before_is_left(layout: str, rng: np.random.Generator) -> None:
    """Memory may have been used before; the unused half of a line of scales is 0 then too."""
    group = GROUP_LAYOUTS[layout]
    t, scales = random_groups((17, 3 * group - 1), group, rng)
    source = TernarySource(
        "ternary_floats", floats_of(t, scales, group), *t.shape, kind="F16", group=group
    )

    def used(size: int) -> np.ndarray:
        memory = packing.aligned_empty(size)
        memory.fill(0xA5)
        return memory

    codes, problem = packing.pack_source(source, 1, used, layout)
    assert problem is None
    assert_holds_groups(codes, t, scales, layout)


def test_a_group_of_zeros_has_scale_0() -> None:
    weights = np.zeros((2, 192), np.float32)
    weights[1, 64] = -0.25
    weights[0, 0] = -0.0
    source = TernarySource("ternary_floats", weights, 2, 192, kind="F32")
    codes, problem = packing.pack_source(source, 1, layout="groups64")
    assert problem is None
    scales = np.array([[0, 0, 0], [0, 0.25, 0]])
    assert_holds_groups(codes, np.sign(weights).astype(np.int8), scales, "groups64")


def test_rows_as_floats_in_any_order(rng: np.random.Generator) -> None:
    t, scales = random_groups((40, 200), 64, rng)
    values = floats_of(t, scales, 64).astype(np.float32)
    source = TernarySource("ternary_floats", values, 40, 200, kind="F32")
    codes, _ = packing.pack_source(source, 1, layout="groups64")
    ids = np.array([39, 0, 16, 15, 39, 7], np.int64)
    out = np.full((6, 200), np.nan, np.float32)
    packing.ternary_rows_as_floats(codes, 40, 200, "groups64", ids, out)
    assert_same_bits(out, values[ids] + np.float32(0))  # -0 of a weight is +0 here
    packing.ternary_rows_as_floats(codes, 40, 200, "groups64", ids[:0], out[:0])
    for wrong in (-1, 40, 2**40):
        with pytest.raises(ValueError, match=f"row {wrong} of 40"):
            packing.ternary_rows_as_floats(
                codes, 40, 200, "groups64", np.array([wrong], np.int64), out[:1]
            )
    with pytest.raises(ValueError, match="shape"):
        packing.ternary_rows_as_floats(codes, 40, 200, "groups64", ids, out[:5])
    tiles, _ = packing.pack_hf(np.full((10, 200), 0x55, np.uint8), 40, 1)
    with pytest.raises(ValueError, match="tiles has no scales"):
        packing.ternary_rows_as_floats(tiles, 40, 200, "tiles", ids, out)


def test_a_scale_that_is_no_half_float_is_reported() -> None:
    for scale in (0.1, 65520, 65536, 2.0**-25, 3 * 2.0**-25, 2.0**-14 + 2.0**-25, 2.0**-149):
        weights = np.full((3, 64), scale, np.float32)
        source = TernarySource("ternary_floats", weights, 3, 64, kind="F32")
        assert source.common_scale() == np.float32(scale)
        assert packing.pack_source(source, 1, layout="groups64")[1] is Problem.HALF
        codes, problem = packing.pack_source(source, 1, layout="tiles")
        assert problem is None
        assert (packing.unpack(codes, 3, 64) == 1).all()


def test_every_half_float_is_one() -> None:
    numbers = np.arange(0x7C00, dtype=np.uint16).view(np.float16).reshape(-1, 1).astype(np.float32)
    weights = np.repeat(numbers, 64, axis=1)
    source = TernarySource("ternary_floats", weights, len(weights), 64, kind="F32")
    codes, problem = packing.pack_source(source, 1, layout="groups64")
    assert problem is None
    assert_same_bits(packing.unpack_scales(codes, len(weights), 64, "groups64"), numbers)
    between = np.nextafter(numbers[1:], np.float32(0))
    for number in between[::997]:
        source = TernarySource("ternary_floats", np.full((1, 64), number), 1, 64, kind="F32")
        assert packing.pack_source(source, 1, layout="groups64")[1] is Problem.HALF
