"""Bytes and multiply-adds of operations, from the shapes of the weights and of a pass.

Profiles take them for passes that ran, `bench` for one token.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from ..interfaces.kv_layout import KVLayout
from .operations import PROJECTIONS

__all__ = ["Cost", "candidate_costs", "head_costs", "layer_costs", "projection_multiply_adds"]

FLOAT = 4
NOTHING_SKIPPED = (0, 0, 0, 0)


class Cost(NamedTuple):
    """The cost of one operation. Each array counts once a step, whether it is in memory or in a CPU
    cache.

    Attributes
    ----------
    weights : float
        Bytes of weights that are read, without skipped ones.
    cache : float
        Bytes of keys and values that are read or written.
    activations : float
        Bytes of activations that are read or written.
    multiply_adds : float
        Those of matrix products and attention.
    """

    weights: float = 0
    cache: float = 0
    activations: float = 0
    multiply_adds: float = 0

    @property
    def bytes(self) -> float:
        """Bytes in all."""
        return self.weights + self.cache + self.activations


def layer_costs(
    graph: Any, layout: KVLayout, segments: Iterable[tuple[int, float]], skipping: Sequence[float]
) -> dict[str, Cost]:
    """The costs of all decoder layers in one pass.

    Parameters
    ----------
    graph : a family's graph, whose `layers` (DecoderLayer) have equal shapes and layouts
    layout : KVLayout
    segments : (rows, position of the first row) of each sequence
        One row may stand at a mean position that is not whole.
    skipping : four numbers
        What `Workspace.skipping` counted in this pass.
    """
    segments = list(segments)
    n = sum(rows for rows, _ in segments)
    cached = sum(position + rows for rows, position in segments)
    # the query at position p sees p + 1 positions
    pairs = sum(rows * position + rows * (rows + 1) // 2 for rows, position in segments)
    position_bytes = layout.bytes_per_position / layout.layers
    costs: dict[str, Cost] = {}
    layer, layers = graph.layers[0], len(graph.layers)

    def product(name: str, *matrices: Any, out: int) -> None:
        elements = sum(matrix.rows * matrix.columns for matrix in matrices)
        costs[name] = Cost(
            weights=layers * sum(matrix.read_bytes for matrix in matrices),
            activations=layers * n * (matrices[0].columns + out * FLOAT),
            multiply_adds=layers * n * elements,
        )

    q, kv, down, up = layer.q.rows, layer.k.rows, layer.down, layer.up
    columns = layer.q.columns + layer.o.columns + layer.gate.columns + down.columns
    costs["norm_quantize"] = Cost(
        weights=layers * columns * FLOAT, activations=layers * columns * n * (FLOAT + 1)
    )
    product("qkv", layer.q, layer.k, layer.v, out=q + 2 * kv)
    costs["rope_append"] = Cost(
        cache=layers * n * position_bytes, activations=layers * n * FLOAT * (2 * q + 3 * kv)
    )
    costs["attention"] = Cost(
        cache=layers * cached * position_bytes,
        activations=layers * 2 * n * q * FLOAT,
        multiply_adds=layers * 2 * pairs * q,
    )
    product("o", layer.o, out=2 * layer.o.rows)  # a sum: read and written
    rows_read, rows_seen, columns_read, columns_seen = skipping
    if rows_seen:
        product("gate", layer.gate, out=layer.gate.rows)
        costs["up"] = Cost(
            weights=rows_read * up.read_bytes / up.rows,
            activations=layers * n * (up.columns + 2 * up.rows * FLOAT),
            multiply_adds=n * rows_read * up.columns,
        )
    else:
        product("gate_up", layer.gate, up, out=layer.gate.rows)
    if columns_seen:
        costs["down"] = Cost(
            weights=columns_read * down.read_bytes / down.columns,
            activations=layers * n * (down.columns + 2 * down.rows * FLOAT),
            multiply_adds=n * columns_read * down.rows,
        )
    else:
        product("down", down, out=2 * down.rows)
    return costs


def projection_multiply_adds(graph: Any) -> int:
    """Ternary multiply-adds of one token if nothing is skipped: those of all projections, without
    head and attention."""
    costs = layer_costs(graph, graph.kv_layout("float32"), [(1, 0)], NOTHING_SKIPPED)
    return int(sum(cost.multiply_adds for name, cost in costs.items() if name in PROJECTIONS))


def head_costs(graph: Any, n: int) -> dict[str, Cost]:
    """The costs of logits of n tokens from all rows of the head."""
    vocabulary, hidden = graph.head.vocab_size, graph.head.hidden_size
    return {
        "head_norm": Cost(activations=2 * n * hidden * FLOAT),
        "head": Cost(
            weights=graph.head.nbytes,
            activations=n * (hidden + vocabulary) * FLOAT,
            multiply_adds=n * vocabulary * hidden,
        ),
    }


def candidate_costs(graph: Any, ways: Sequence[str], sizes: Sequence[float]) -> dict[str, Cost]:
    """The costs of the head's answers to queries.

    The screen multiplies each weight once, and writes one logit for each row.

    Parameters
    ----------
    ways : one str for each query
        As returned by `Head.way`.
    sizes : one number for each query
        Number of candidates, or its mean over several tokens. Unless the way is "full", these are
        the rows whose stored floats were read.
    """
    vocabulary, hidden = graph.head.vocab_size, graph.head.hidden_size
    full, screened = ways.count("full"), ways.count("screen")
    costs = head_costs(graph, full) if full else {}
    rows = sum(size for way, size in zip(ways, sizes, strict=True) if way != "full")
    others = len(ways) - full
    if others:
        norm = costs.get("head_norm", Cost()).activations
        costs["head_norm"] = Cost(activations=norm + others * hidden * (2 * FLOAT + 1))
        costs["head_rescore"] = Cost(
            weights=rows * graph.head.nbytes / vocabulary,
            multiply_adds=rows * hidden,
        )
    if screened:
        costs["head_screen"] = Cost(
            weights=graph.head.screen_bytes,
            activations=screened * (hidden + FLOAT * vocabulary),
            multiply_adds=screened * vocabulary * hidden,
        )
    return costs
