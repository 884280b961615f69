"""The scales inside a packed matrix in a layout of groups (kernels.h), as their bits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .packing import GROUP_LAYOUTS
from .ternary_matrix import TernaryMatrix

__all__ = ["check_group_scales", "group_scale_bits"]

INFINITY = 0x7C00  # as fp16; larger bits are NaN, or have a sign
MINUS_ZERO = 0x8000


def group_scale_bits(matrix: TernaryMatrix) -> NDArray[np.uint16]:
    """The fp16 bits of all scales, with those of padding: (row tiles, pairs of groups, 32). A view.

    A pair of groups begins with a line of 32 scales, which the codes of both groups follow.
    """
    pair = 1 + 2 * (GROUP_LAYOUTS[matrix.layout] // 16)
    scales: NDArray[np.uint16] = matrix.codes.view(np.uint16)[:, ::pair]
    return scales


def check_group_scales(matrix: TernaryMatrix) -> None:
    """Does nothing for a matrix in another layout.

    Raises
    ------
    ValueError
        If a scale is negative, NaN or infinite.
    """
    if matrix.layout not in GROUP_LAYOUTS:
        return
    bits = group_scale_bits(matrix)
    if bits.max() >= INFINITY and ((bits >= INFINITY) & (bits != MINUS_ZERO)).any():
        raise ValueError("a scale of a group is negative, NaN or infinite")
