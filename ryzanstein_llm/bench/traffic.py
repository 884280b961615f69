"""The bytes that decoding a token reads, as reports group them. They come from the costs that
profiles use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..interfaces.kv_layout import KVLayout
from ..profiling.costs import candidate_costs, layer_costs
from ..profiling.operations import PROJECTIONS

__all__ = ["Densities", "Traffic", "bytes_per_token"]


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

    def counts(self, graph: Any) -> tuple[float, float, float, float]:
        """What `Workspace.skipping` would count for one token of this graph."""
        rows = columns = 0
        if self.rows is not None:
            rows = sum(layer.up.rows for layer in graph.layers)
        if self.columns is not None:
            columns = sum(layer.down.columns for layer in graph.layers)
        return (self.rows or 0) * rows, rows, (self.columns or 0) * columns, columns


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
    layers = layer_costs(graph, layout, [(1, context - 1)], densities.counts(graph))
    ternary = sum(cost.weights for name, cost in layers.items() if name in PROJECTIONS)
    cache = layers["attention"].cache
    if graph.head.screen is None:
        head = candidate_costs(graph, ["full"], [graph.head.vocab_size])
        return Traffic(ternary, head["head"].weights, 0, cache, densities)
    head = candidate_costs(graph, ["screen"], [head_rows])
    screen, rows = head["head_screen"].weights, head["head_rescore"].weights
    return Traffic(ternary, screen, rows, cache, densities)
