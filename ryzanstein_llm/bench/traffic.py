"""What a token costs by the shapes of the weights: bytes read and multiply-adds.

The one place to change when kernels read less.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..kv_cache import KVLayout

__all__ = ["Traffic", "bytes_per_token", "multiply_adds_per_token"]


@dataclass(frozen=True)
class Traffic:
    """Bytes that decoding one token reads.

    Attributes
    ----------
    ternary : float
        Tiles of all projections.
    head : float
        The screen, or the full head where there is none.
    head_rows : float
        Rows of the head that the screen left in question.
    cache : float
        Keys and values of the positions before it, and its own.
    ffn_density : float or None
        Share of the FFN's rows and columns that were read; None where all always are.
    """

    ternary: float
    head: float
    head_rows: float
    cache: float
    ffn_density: float | None = None

    @property
    def total(self) -> float:
        """Bytes in all."""
        return self.ternary + self.head + self.head_rows + self.cache


def bytes_per_token(graph: Any, layout: KVLayout, context: float, head_rows: float) -> Traffic:
    """Bytes read by greedy decoding of one token of one sequence.

    Small things are left out: norms, one row of the embedding, activations.

    Parameters
    ----------
    graph : a family's graph
    layout : KVLayout
    context : float
        Mean number of positions that are attended to.
    head_rows : float
        Mean number of rows of the head whose stored floats were read.
    """
    ternary = sum(matrix.nbytes for layer in graph.layers for matrix in layer.matrices)
    cache = context * layout.bytes_per_position
    if graph.screen is None:
        return Traffic(ternary, graph.head.array.nbytes, 0, cache)
    row = graph.head.array.nbytes / len(graph.head.array)
    return Traffic(ternary, graph.screen.nbytes, head_rows * row, cache)


def multiply_adds_per_token(graph: Any) -> int:
    """Ternary multiply-adds of one token: those of all projections, none of head and attention."""
    return sum(matrix.rows * matrix.columns for layer in graph.layers for matrix in layer.matrices)
