"""Ternary weights of published BitNet checkpoints: two-bit packing and absmean.

A weight matrix is `(out_features, in_features)`; its ternary part `t` is int8 in
{−1, 0, 1} and one number, the multiplier, belongs to the whole matrix.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class TernaryWeight:
    """`W ≈ t · multiplier`: `t` int8 `(out_features, in_features)`, one float for the matrix."""

    t: npt.NDArray[np.int8]
    multiplier: float

    @cached_property
    def columns_first(self) -> npt.NDArray[np.float64]:
        """`t` transposed and widened: `(in_features, out_features)`."""
        return self.t.T.astype(np.float64)


def unpack_rows(packed: npt.NDArray[np.uint8], out_features: int) -> npt.NDArray[np.int8]:
    """The ternary matrix of a packed one.

    Byte `[r, c]` of the `ceil(out/4)` packed rows R holds rows r, r+R, r+2R, r+3R of
    column c, lowest bits first, each as `t + 1`. Raises ValueError for code 3.
    """
    rows, columns = packed.shape
    t = np.empty((4 * rows, columns), np.int8)
    for part in range(4):
        codes = packed // 4**part % 4
        if np.any(codes == 3):
            raise ValueError("code 3 in packed ternary weights")
        t[part * rows : (part + 1) * rows] = codes.astype(np.int8) - 1
    return t[:out_features]


def pack_rows(t: npt.NDArray[np.int8]) -> npt.NDArray[np.uint8]:
    """The inverse of `unpack_rows`; rows beyond `out_features` are filled with zeros."""
    rows = -(-t.shape[0] // 4)
    padded = np.zeros((4 * rows, t.shape[1]), np.int64)
    padded[: t.shape[0]] = t
    codes = (padded + 1).reshape(4, rows, t.shape[1])
    return (codes[0] + 4 * codes[1] + 16 * codes[2] + 64 * codes[3]).astype(np.uint8)


def weight_multiplier(weight_scale: float, linear_class: str | None) -> float:
    """What the integer sums are multiplied by: `autobitlinear` stores it, all else its inverse."""
    return weight_scale if linear_class == "autobitlinear" else 1.0 / weight_scale


def absmean(master: npt.NDArray[np.floating]) -> TernaryWeight:
    """Ternary weights of float masters: `a = max(mean|W|, 1e-5)`, `t = clip(round(W/a), −1, 1)`."""
    wide = master.astype(np.float64)
    mean = max(float(np.mean(np.abs(wide))), 1e-5)
    return TernaryWeight(np.clip(np.rint(wide / mean), -1, 1).astype(np.int8), mean)


def masters_reproducing(weight: TernaryWeight) -> npt.NDArray[np.float32]:
    """Float masters from which `absmean` gives back `weight`.

    `t · multiplier` itself would not do: its mean is smaller than the multiplier by the
    share of non-zero weights. Every non-zero becomes ±multiplier/share, so that the mean is
    the multiplier; divided by it they are at least 1, so they round to ±1.
    """
    share = np.count_nonzero(weight.t) / weight.t.size
    if share == 0.0:
        raise ValueError("a matrix of zeros has no masters with a positive mean")
    return (weight.t.astype(np.float64) * (weight.multiplier / share)).astype(np.float32)
