"""Ternary matrices with scales of groups, read back by the words of kernels.h."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ryzanstein_llm.kernels import packing

from .same_bits import assert_same_bits

GROUP_LAYOUTS = packing.GROUP_LAYOUTS


def read_groups(
    codes: npt.NDArray[np.uint8], groups: int, group: int
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float16]]:
    """All that is stored, padding too: t (16 * row tiles, groups * group), scales (rows, groups).

    Of each row tile: a line of 32 scales for a pair of groups, then its tiles one after the other.
    """
    t = np.empty((16 * codes.shape[0], groups * group), np.int8)
    scales = np.empty((16 * codes.shape[0], groups), np.float16)
    for tile, lines in enumerate(codes):
        rows = slice(16 * tile, 16 * tile + 16)
        line = 0
        for g in range(groups):
            if g % 2 == 0:
                pair = lines[line].view(np.float16)
                line += 1
                assert g + 1 < groups or not pair[16:].any()
            scales[rows, g] = pair[16 * (g % 2) : 16 * (g % 2) + 16]
            for c in range(g * group, (g + 1) * group, 16):
                of_row = lines[line].reshape(16, 4)  # byte 4*row + b: columns b, 4+b, 8+b, 12+b
                for column in range(16):
                    found = of_row[:, column % 4] >> (2 * (column // 4)) & 3
                    t[rows, c + column] = found.astype(np.int8) - 1
                line += 1
        assert line == len(lines)
    return t, scales


def assert_holds_groups(
    codes: npt.NDArray[np.uint8],
    t: npt.NDArray[np.int8],
    scales: npt.NDArray[np.floating],
    layout: str,
) -> None:
    """The codes hold t and scales (rows, groups of the layout), and zeros around them; the readers
    of the library say the same."""
    rows, columns = t.shape
    group = GROUP_LAYOUTS[layout]
    groups = -(-columns // group)
    assert codes.shape == packing.storage_shape(rows, columns, layout)
    assert codes.ctypes.data % 64 == 0
    whole, found = read_groups(codes, groups, group)
    assert_same_bits(whole[:rows, :columns], t)
    assert not whole[rows:].any()
    assert not whole[:, columns:].any()
    assert_same_bits(found[:rows].astype(np.float32), scales.astype(np.float32))
    assert not found[rows:].any()
    assert_same_bits(packing.unpack(codes, rows, columns, layout), t)
    assert_same_bits(packing.unpack_scales(codes, rows, columns, layout), scales.astype(np.float32))
    values = np.empty((rows, columns), np.float32)
    packing.ternary_rows_as_floats(codes, rows, columns, layout, np.arange(rows), values)
    by_column = np.repeat(scales.astype(np.float32), group, axis=1)[:, :columns]
    assert_same_bits(values, t.astype(np.float32) * by_column)
