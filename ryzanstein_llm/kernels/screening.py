"""Helpers of the screened head (head.pyx): its buffers, and its arguments as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .packing import pack_screen, screen_shapes
from .workspace import Workspace

__all__ = [
    "ScreenBuffers",
    "broadcast",
    "check_packed",
    "excluded_rows",
    "merge",
    "screen_buffers",
]

COMPARED_BLOCKS = 8  # of 64 rows each, evenly spaced

Found = tuple[NDArray[np.int64], NDArray[np.float32]]


class ScreenBuffers:
    """Buffers that the screen writes for n hidden states. A workspace keeps them between calls,
    because it costs time to allocate a megabyte for each token.

    Attributes
    ----------
    logits : float32 (n, 16 * row_tiles)
        Screened logits, in tiles of 16 rows. A tile has 16 logits of each hidden state in turn.
    bounds : float32 (2, n, row_tiles)
        The largest lower bound and the largest upper bound of each tile.
    found, found_logits : int32 and float32 (n, 16 * row_tiles)
        Rows that the screen does not rule out, and their exact logits.
    sizes : float32 (3, n)
        From the last call: size and rest of each hidden state (see kernels.h), and its threshold.
    hidden : float32 (n, columns)
        From the last call: hidden states after the norm.
    excluded : uint8 (n, 16 * row_tiles) or None
        From the last call: as `excluded_rows` returned it.
    """

    def __init__(self, n: int, row_tiles: int) -> None:
        self.row_tiles = row_tiles
        self.logits = np.empty((n, 16 * row_tiles), np.float32)
        self.bounds = np.empty((2, n, row_tiles), np.float32)
        self.found = np.empty((n, 16 * row_tiles), np.int32)
        self.found_logits = np.empty((n, 16 * row_tiles), np.float32)
        self.sizes = np.empty((3, n), np.float32)
        self.hidden = np.empty((0, 0), np.float32)
        self.excluded: NDArray[np.uint8] | None = None


def screen_buffers(workspace: Workspace, n: int, row_tiles: int) -> ScreenBuffers:
    """The buffers of the workspace. Allocates new ones if these do not fit."""
    buffers: ScreenBuffers | None = workspace.screen_buffers
    if buffers is None or buffers.row_tiles != row_tiles or len(buffers.logits) < n:
        buffers = ScreenBuffers(n, row_tiles)
        workspace.screen_buffers = buffers
    buffers.sizes = np.empty((3, n), np.float32)
    return buffers


def check_packed(
    blocks: NDArray[np.uint8], stats: NDArray[np.float32], weights: NDArray[Any], kind: str
) -> None:
    """Check the screen of a matrix, as `packing.pack_screen` returns it. Some of its blocks are
    packed again and compared.

    Raises
    ------
    ValueError
        If a shape, a dtype or the alignment is wrong; if a scale or norm is negative, NaN or
        infinite; or if the weights give another screen.
    """
    rows, columns = weights.shape
    dtypes = (np.uint8, np.float32)
    expected = zip(("blocks", "stats"), dtypes, screen_shapes(rows, columns), strict=True)
    arrays: tuple[NDArray[Any], ...] = (blocks, stats)
    for array, (name, dtype, shape) in zip(arrays, expected, strict=True):
        address = array.ctypes.data
        if (
            array.dtype != dtype
            or array.shape != shape
            or not array.flags.c_contiguous
            or address % 64
        ):
            raise ValueError(
                f"{name} of a screen of {rows} x {columns} must be {np.dtype(dtype)} of shape "
                f"{shape}, C-contiguous and 64-byte aligned, not {array.dtype} of shape "
                f"{array.shape} at address {address:#x}"
            )
    # false for NaN, which comparisons of bounds would let through
    if not ((stats >= 0).all() and (stats[:, :rows] < np.inf).all()):  # padding has infinite ones
        raise ValueError(
            f"some scales or norms of a screen of {rows} x {columns} are negative, NaN or infinite"
        )
    height = stats.shape[1] // len(blocks)
    for block in sorted({len(blocks) * i // COMPARED_BLOCKS for i in range(COMPARED_BLOCKS)}):
        begin, end = height * block, height * (block + 1)
        codes, numbers = pack_screen(weights[begin:end], kind, 1)
        if not (
            np.array_equal(codes[0], blocks[block]) and np.array_equal(numbers, stats[:, begin:end])
        ):
            raise ValueError(
                f"the weights from row {begin} of {rows} x {columns} have another screen"
            )


def broadcast(value: Any, n: int, dtype: type[np.generic]) -> NDArray[Any]:
    """The values as a contiguous array. A single value is repeated n times."""
    values = np.array(value, dtype)
    return np.full(n, values) if values.ndim == 0 else values


def excluded_rows(
    also: Sequence[NDArray[np.int64] | None] | None,
    allowed: Sequence[NDArray[np.bool_] | None] | None,
    n: int,
    rows: int,
    stride: int,
) -> NDArray[np.uint8] | None:
    """uint8 (n, stride): 1 for rows that cannot be among the likeliest. None if all rows can be.

    Raises
    ------
    ValueError
        If ids are not in ascending order from 0 to rows - 1, or a mask is not bool (rows,).
    """
    if also is None and allowed is None:
        return None
    excluded = np.zeros((n, stride), np.uint8)
    for i in range(n):
        mask = None if allowed is None else allowed[i]
        ids = None if also is None else also[i]
        if mask is not None:
            if mask.shape != (rows,) or mask.dtype != np.bool_:
                raise ValueError(
                    f"a mask must be bool of shape ({rows},), not {mask.dtype} of {mask.shape}"
                )
            np.logical_not(mask, out=excluded[i, :rows].view(np.bool_))
        if ids is not None and len(ids):
            if not (ids.min() >= 0 and ids.max() < rows and (np.diff(ids) > 0).all()):
                raise ValueError(
                    f"ids must be in ascending order and from 0 to {rows - 1}, each once, not {ids}"
                )
            excluded[i, ids] = 1
    return excluded


def merge(found: Found, ids: NDArray[np.integer[Any]], logits: NDArray[np.float32]) -> Found:
    """Two disjoint sets of (ids, logits) as one, in ascending order of ids."""
    both = np.concatenate((found[0], ids.astype(np.int64)))
    order = np.argsort(both, kind="stable")
    return both[order], np.concatenate((found[1], logits))[order]
