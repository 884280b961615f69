"""Ternary matrices in the kernels' layout, beside their values."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from reference import pack_rows

from ryzanstein_llm.kernels import packing
from ryzanstein_llm.kernels.ternary_matrix import TernaryMatrix

Int8 = npt.NDArray[np.int8]


LAYOUTS = tuple(packing.LAYOUTS)


def matrix_of(t: Int8, scale: float = 1.0, layout: str = "tiles") -> TernaryMatrix:
    """The kernels' form of int8 values -1, 0, 1."""
    codes, clean = packing.pack_hf(pack_rows(t), t.shape[0], 1, layout=layout)
    assert clean
    return TernaryMatrix(codes, *t.shape, scale, layout)


@lru_cache(maxsize=64)
def random_case(
    rows: int, columns: int, seed: int = 0, layout: str = "tiles"
) -> tuple[TernaryMatrix, Int8]:
    """A matrix of random -1, 0, 1 with an awkward scale, and its values, whatever the layout."""
    t = np.random.default_rng([rows, columns, seed]).integers(-1, 2, (rows, columns), np.int8)
    return matrix_of(t, 0.0372 + 0.01 * seed, layout), t
