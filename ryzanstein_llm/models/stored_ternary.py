"""Finds out whether a float tensor is ternary already, and which weights share a scale.

Some checkpoints hold their ternary weights as floats: every weight is -s, 0 or +s, where s belongs
to the whole matrix (Falcon-E's bfloat16 revision), to a row or part of a row (TriLM), or to 64, 128
or 256 neighbours of a row (Ternary-Bonsai, CAT-Q, BitCPM4). Absmean would shrink s by the share of
non-zero weights, so such weights are taken as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FormatError
from ..formats import Tensor

__all__ = ["StoredScales", "find_scales"]

GROUP = 64  # the smallest run of columns with a scale of its own
COARSER = (256, 128)  # larger ones, largest first
SAMPLED_ROWS = 16
SLICE = 1 << 20  # weights looked at in one go

# Bits of a float without its sign. Of finite floats, larger bits mean a larger magnitude.
MAGNITUDE = {"BF16": 0x7FFF, "F16": 0x7FFF, "F32": 0x7FFFFFFF}
INFINITE = {"BF16": 0x7F80, "F16": 0x7C00, "F32": 0x7F800000}


@dataclass(frozen=True)
class StoredScales:
    """
    Attributes
    ----------
    group : int
        Number of neighbouring columns that share a scale; `columns` if whole rows do.
    values : float32 (rows, ceil(columns / group)), or (1, 1) if all weights share one scale
        The magnitude of the weights that are not zero; 0 if there are none.
    """

    group: int
    values: NDArray[np.float32]

    @property
    def one(self) -> float | None:
        """The scale of the whole matrix, or None if there are several."""
        return float(self.values[0, 0]) if self.values.shape == (1, 1) else None


def find_scales(tensor: Tensor) -> StoredScales | None:
    """The scales of a float matrix that is ternary already, or None if it is not.

    A few rows are looked at first, so masters cost almost nothing. If these rows are ternary, every
    weight is checked, a slice at a time.

    Parameters
    ----------
    tensor : Tensor of shape (rows, columns)
        BF16, F16 or F32.

    Raises
    ------
    FormatError
        If the first look finds ternary weights, but some row is not ternary.
    """
    bits = tensor.array.view(np.uint32 if tensor.dtype == "F32" else np.uint16)
    rows, columns = bits.shape
    sampled = np.unique(np.linspace(0, rows - 1, min(rows, SAMPLED_ROWS)).astype(np.int64))
    if _maxima(bits[sampled], tensor.dtype) is None:
        return None
    step = max(1, SLICE // columns)
    parts = []
    for begin in range(0, rows, step):
        maxima = _maxima(bits[begin : begin + step], tensor.dtype)
        if maxima is None:
            raise FormatError(
                f"tensor {tensor.name!r}: {len(sampled)} sampled rows are ternary, but one of rows "
                f"{begin}..{min(begin + step, rows) - 1} is not"
            )
        parts.append(maxima)
    maxima = np.concatenate(parts)
    group = GROUP
    for coarser in (maxima.shape[1] * GROUP, *COARSER):
        merged = _merge(maxima, coarser // GROUP) if coarser > GROUP else maxima
        if merged is not None:
            maxima, group = merged, min(coarser, columns)
            break
    if maxima.shape[1] == 1 and (whole := _merge(maxima.T, rows)) is not None:
        return StoredScales(columns, _floats(whole, tensor.dtype))
    return StoredScales(group, _floats(maxima, tensor.dtype))


def _maxima(bits: NDArray[Any], dtype: str) -> NDArray[Any] | None:
    """The magnitude of each group's weights as bits (rows, groups), or None if a group has several,
    or one that is not finite."""
    magnitudes = bits & bits.dtype.type(MAGNITUDE[dtype])
    short = -magnitudes.shape[1] % GROUP
    if short:
        magnitudes = np.pad(magnitudes, ((0, 0), (0, short)))
    groups = magnitudes.reshape(len(magnitudes), -1, GROUP)
    largest = groups.max(axis=2)
    ternary = (groups == 0) | (groups == largest[:, :, None])
    return largest if ternary.all() and (largest < INFINITE[dtype]).all() else None


def _merge(maxima: NDArray[Any], together: int) -> NDArray[Any] | None:
    """The magnitudes of groups that are `together` times as wide, or None if some differ."""
    short = -maxima.shape[1] % together
    padded = np.pad(maxima, ((0, 0), (0, short))) if short else maxima
    wide = padded.reshape(len(maxima), -1, together)
    largest = wide.max(axis=2)
    return largest if ((wide == 0) | (wide == largest[:, :, None])).all() else None


def _floats(bits: NDArray[Any], dtype: str) -> NDArray[np.float32]:
    if dtype == "BF16":
        return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return (
        np.ascontiguousarray(bits)
        .view(np.float16 if dtype == "F16" else np.float32)
        .astype(np.float32)
    )
