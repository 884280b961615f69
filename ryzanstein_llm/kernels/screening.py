"""Helpers of the screened head (head.pyx): its buffers, and queries as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .workspace import Workspace

__all__ = ["ScreenBuffers", "exclusions", "merged", "one_each", "screen_buffers"]

Found = tuple[NDArray[np.int64], NDArray[np.float32]]


class ScreenBuffers:
    """Buffers that the screen writes for n hidden states. A workspace keeps them between calls,
    because a megabyte of new pages for each token costs time.

    Attributes
    ----------
    logits : float32 (n, 16 * row_tiles)
        Screened logits, in tiles of 16 rows. Each tile has those of all hidden states in turn.
    bounds : float32 (2, n, row_tiles)
        The largest lower and the largest upper bound within a tile.
    found, found_logits : int32 and float32 (n, 16 * row_tiles)
        Rows in question, and their logits.
    sizes : float32 (3, n)
        Of the last call: sizes and rests of the hidden states (kernels.h), thresholds.
    """

    def __init__(self, n: int, row_tiles: int) -> None:
        self.row_tiles = row_tiles
        self.logits = np.empty((n, 16 * row_tiles), np.float32)
        self.bounds = np.empty((2, n, row_tiles), np.float32)
        self.found = np.empty((n, 16 * row_tiles), np.int32)
        self.found_logits = np.empty((n, 16 * row_tiles), np.float32)
        self.sizes = np.empty((3, n), np.float32)


def screen_buffers(workspace: Workspace, n: int, row_tiles: int) -> ScreenBuffers:
    """The buffers of the workspace, replaced by larger ones if they are too small."""
    held: ScreenBuffers | None = workspace.screen_buffers
    if held is None or held.row_tiles != row_tiles or len(held.logits) < n:
        held = ScreenBuffers(n, row_tiles)
        workspace.screen_buffers = held
    held.sizes = np.empty((3, n), np.float32)
    return held


def one_each(value: Any, n: int, dtype: type[np.generic]) -> NDArray[Any]:
    """One value for each of n, as a contiguous array. A single value is repeated."""
    found = np.array(value, dtype)
    return np.full(n, found) if found.ndim == 0 else found


def exclusions(
    also: Sequence[NDArray[np.int64] | None] | None,
    allowed: Sequence[NDArray[np.bool_] | None] | None,
    n: int,
    rows: int,
    stride: int,
) -> NDArray[np.uint8] | None:
    """uint8 (n, stride): 1 for rows that do not count as likeliest. None if all rows count.

    Raises
    ------
    ValueError
        If ids do not rise within the rows, or a mask does not fit them.
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
                raise ValueError(f"ids that do not rise from 0 to {rows - 1}")
            excluded[i, ids] = 1
    return excluded


def merged(found: Found, ids: NDArray[np.integer[Any]], logits: NDArray[np.float32]) -> Found:
    """Two disjoint sets of (ids, logits) as one, by rising id."""
    both = np.concatenate((found[0], ids.astype(np.int64)))
    order = np.argsort(both, kind="stable")
    return both[order], np.concatenate((found[1], logits))[order]
