"""Token embeddings: one row of floats, or of ternary weights with scales, for each id."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..formats import Tensor
from ..kernels.ternary_matrix import TernaryMatrix

__all__ = ["FloatEmbedding", "TernaryEmbedding"]


class FloatEmbedding:
    """
    Parameters
    ----------
    matrix : Tensor of shape (vocab_size, hidden_size)
        BF16 (as uint16), F16 or F32.
    multiplier : float
        Factor of every row.
    """

    def __init__(self, matrix: Tensor, multiplier: float = 1.0) -> None:
        self.matrix, self.multiplier = matrix, multiplier

    @property
    def nbytes(self) -> int:
        """Bytes of the matrix."""
        return self.matrix.array.nbytes

    def rows(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """The rows of n ids as float32 (n, hidden_size): the stored values times the multiplier."""
        rows = self.matrix.array[ids]
        if self.matrix.dtype == "BF16":
            rows = (rows.astype(np.uint32) << np.uint32(16)).view(np.float32)
        else:
            rows = rows.astype(np.float32)
        return rows if self.multiplier == 1 else rows * np.float32(self.multiplier)


class TernaryEmbedding:
    """
    Parameters
    ----------
    matrix : TernaryMatrix of shape (vocab_size, hidden_size), in a layout of groups
    multiplier : float
        Factor of every row.
    """

    def __init__(self, matrix: TernaryMatrix, multiplier: float = 1.0) -> None:
        self.matrix, self.multiplier = matrix, multiplier

    @property
    def nbytes(self) -> int:
        """Bytes of the matrix."""
        return self.matrix.nbytes

    def rows(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """The rows of n ids as float32 (n, hidden_size): the stored values times the multiplier."""
        rows = self.matrix.look_up(np.ascontiguousarray(ids, dtype=np.int64))
        return rows if self.multiplier == 1 else rows * np.float32(self.multiplier)
