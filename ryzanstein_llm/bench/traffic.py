"""The costs of a token: bytes read, from the shapes of the weights and the shares that were read,
and multiply-adds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..interfaces.kv_layout import KVLayout
from ..kernels.linear import TernaryMatrix

__all__ = ["Densities", "Traffic", "bytes_per_token", "multiply_adds_per_token"]


@dataclass(frozen=True)
class Densities:
    """The shares that decoding read of the matrices that it may skip in part.

    Attributes
    ----------
    rows : float or None
        Share of the rows of `up`; None if `up` is always read as a whole.
    columns : float or None
        Share of the columns of `down`; None if `down` is always read as a whole.
    """

    rows: float | None = None
    columns: float | None = None

    def of(self, matrix: TernaryMatrix) -> float:
        """The share of a matrix that was read."""
        share = {
            "rows": self.rows,
            "trit_rows": self.rows,
            "columns": self.columns,
            "trit_columns": self.columns,
        }.get(matrix.layout)
        return 1.0 if share is None else share


@dataclass(frozen=True)
class Traffic:
    """Bytes that decoding one token reads.

    Attributes
    ----------
    ternary : float
        Codes of all projections.
    head : float
        The screen, or the full head if there is no screen.
    head_rows : float
        The rows of the head that are read after the screen.
    cache : float
        Keys and values of the token and of the positions before it.
    densities : Densities
        The shares that were read of matrices that may be skipped in part.
    """

    ternary: float
    head: float
    head_rows: float
    cache: float
    densities: Densities

    @property
    def total(self) -> float:
        """Bytes in all."""
        return self.ternary + self.head + self.head_rows + self.cache


def bytes_per_token(
    graph: Any, layout: KVLayout, context: float, head_rows: float, densities: Densities
) -> Traffic:
    """Bytes that greedy decoding reads for one token of one sequence.

    Small parts are left out: norms, one row of the embedding, activations.

    Parameters
    ----------
    graph : a family's graph
    layout : KVLayout
    context : float
        Mean number of positions that are attended to.
    head_rows : float
        Mean number of rows of the head whose stored floats were read.
    densities : Densities
        As counted in the same run.
    """
    matrices = [matrix for layer in graph.layers for matrix in layer.matrices]
    ternary = sum(matrix.read_bytes * densities.of(matrix) for matrix in matrices)
    cache = context * layout.bytes_per_position
    stored = graph.head.matrix.array.nbytes
    if graph.head.screen is None:
        return Traffic(ternary, stored, 0, cache, densities)
    row = stored / graph.head.vocab_size
    return Traffic(ternary, graph.head.screen_bytes, head_rows * row, cache, densities)


def multiply_adds_per_token(graph: Any) -> int:
    """Ternary multiply-adds of one token: those of all projections, without head and attention."""
    return sum(matrix.rows * matrix.columns for layer in graph.layers for matrix in layer.matrices)
