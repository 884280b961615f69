"""Bytes and multiply-adds of operations, from the shapes of the weights and of a pass."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ..interfaces.kv_layout import KVLayout

__all__ = ["Cost", "candidate_costs", "head_costs", "layer_costs"]

Cost = tuple[float, float]  # bytes, multiply-adds
FLOAT = 4


def layer_costs(
    graph: Any, layout: KVLayout, segments: Iterable[tuple[int, int]], skipping: Sequence[int]
) -> dict[str, Cost]:
    """The costs of all decoder layers in one pass.

    Parameters
    ----------
    graph : a family's graph, whose `layers` (DecoderLayer) have equal shapes and layouts
    layout : KVLayout
    segments : (rows, position of the first row) of each sequence
    skipping : four ints
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

    def add(name: str, nbytes: float, multiply_adds: float = 0) -> None:
        costs[name] = (nbytes, multiply_adds)

    def product(name: str, *matrices: Any, out: int) -> None:
        weights = sum(matrix.read_bytes for matrix in matrices)
        elements = sum(matrix.rows * matrix.columns for matrix in matrices)
        nbytes = weights + n * matrices[0].columns + n * out * FLOAT
        add(name, layers * nbytes, layers * n * elements)

    q, kv, down, up = layer.q.rows, layer.k.rows, layer.down, layer.up
    columns = layer.q.columns + layer.o.columns + layer.gate.columns + down.columns
    add("norm_quantize", layers * columns * (FLOAT + n * (FLOAT + 1)))
    product("qkv", layer.q, layer.k, layer.v, out=q + 2 * kv)
    add("rope_append", layers * n * (FLOAT * (2 * q + 3 * kv) + position_bytes))
    attended = cached * position_bytes + 2 * n * q * FLOAT
    add("attention", layers * attended, layers * 2 * pairs * q)
    product("o", layer.o, out=2 * layer.o.rows)  # a sum: read and written
    rows_read, rows_seen, columns_read, columns_seen = skipping
    if rows_seen:
        product("gate", layer.gate, out=layer.gate.rows)
        others = layers * n * (up.columns + 2 * up.rows * FLOAT)
        add("up", rows_read * up.read_bytes / up.rows + others, n * rows_read * up.columns)
    else:
        product("gate_up", layer.gate, up, out=layer.gate.rows)
    if columns_seen:
        others = layers * n * (down.columns + 2 * down.rows * FLOAT)
        weights = columns_read * down.read_bytes / down.columns
        add("down", weights + others, n * columns_read * down.rows)
    else:
        product("down", down, out=2 * down.rows)
    return costs


def head_costs(graph: Any, n: int) -> dict[str, Cost]:
    """The costs of logits of n tokens from all rows of the head."""
    vocabulary, hidden = graph.head.matrix.array.shape
    activations = n * (hidden + vocabulary) * FLOAT
    return {
        "head_norm": (2 * n * hidden * FLOAT, 0),
        "head": (graph.head.matrix.array.nbytes + activations, n * vocabulary * hidden),
    }


def candidate_costs(graph: Any, ways: Sequence[str], sizes: Sequence[int]) -> dict[str, Cost]:
    """The costs of the head's answers to queries.

    The screen multiplies each weight once, and writes one logit for each row.

    Parameters
    ----------
    ways : one str for each query
        As returned by `FloatHead.way`.
    sizes : one int for each query
        Number of candidates. Unless the way is "full", these are the rows whose stored floats were
        read.
    """
    vocabulary, hidden = graph.head.matrix.array.shape
    full, screened = ways.count("full"), ways.count("screen")
    costs = head_costs(graph, full) if full else {}
    rows = sum(size for way, size in zip(ways, sizes, strict=True) if way != "full")
    others = len(ways) - full
    if others:
        norm = costs.get("head_norm", (0, 0))[0]
        costs["head_norm"] = (norm + others * hidden * (2 * FLOAT + 1), 0)
        costs["head_rescore"] = (
            rows * graph.head.matrix.array.nbytes / vocabulary,
            rows * hidden,
        )
    if screened:
        costs["head_screen"] = (
            graph.head.screen_bytes + screened * (hidden + FLOAT * vocabulary),
            screened * vocabulary * hidden,
        )
    return costs
