"""How much memory the weights and the passes of a planned decoder take."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..formats import Checkpoint
from ..kernels.packing import GROUP_LAYOUTS, screen_shapes, storage_shape
from .arena import arena_bytes
from .plan import DecoderPlan, MatrixPlan
from .projections import FLOAT_DTYPES

__all__ = ["WeightMemory", "pass_bytes", "private_bytes", "weight_memory"]


@dataclass(frozen=True)
class WeightMemory:
    """All in bytes.

    Attributes
    ----------
    weights : int
        Ternary matrices of the layers, norms and biases.
    embedding : int
        Embedding and head.
    mapped : int
        The part of `embedding` that stays in the file and is read when it is needed.
    screen : int
        The screen of the head.
    peak : int
        The most that loading takes at a time, with pages of the file that are being read.
    """

    weights: int
    embedding: int
    mapped: int
    screen: int
    peak: int


def weight_memory(plan: DecoderPlan, checkpoint: Checkpoint) -> WeightMemory:
    """What the weights take when they are loaded. Only shapes are looked at."""
    outside = [plan.embedding] if plan.head is None else [plan.embedding, plan.head]
    floats = {matrix: _floats(matrix, checkpoint) for matrix in outside if matrix.layout is None}
    ternary = sum(_storage(matrix) for matrix in outside if matrix.layout is not None)
    packed = [_storage(matrix) for matrix in plan.matrices if matrix.layout is not None]
    blocks = stats = 0
    if plan.screened:
        shapes = screen_shapes(*_shape(plan.head or plan.embedding))
        blocks, stats = math.prod(shapes[0]), 4 * math.prod(shapes[1])
        packed.append(blocks)
    # Arrays lie in the arena in this order; what pages take more than arrays counts as weights.
    vectors = 4 * sum(vector.size for vector in plan.vectors)
    return WeightMemory(
        arena_bytes(packed) - ternary - blocks + vectors,
        ternary + sum(found.nbytes for found in floats.values()),
        sum(found.nbytes for found in floats.values() if found.mapped),
        blocks + stats,
        _peak(plan, checkpoint, floats, packed) + stats + vectors,
    )


def private_bytes(plan: DecoderPlan, checkpoint: Checkpoint, *, packed: bool) -> int:
    """The least memory that loading takes and the system cannot reclaim: without pages of files.

    Parameters
    ----------
    packed : bool
        Whether packed weights are mapped from a file. Otherwise they are packed, and until they are
        written to a file, nobody can reclaim them.
    """
    outside = [plan.embedding] if plan.head is None else [plan.embedding, plan.head]
    floats = [_floats(matrix, checkpoint) for matrix in outside if matrix.layout is None]
    total = sum(found.nbytes for found in floats if not found.mapped)
    total += 4 * sum(vector.size for vector in plan.vectors)
    total += pass_bytes(plan, 1, 1)
    if packed:
        return total
    sizes = [_storage(matrix) for matrix in plan.matrices if matrix.layout is not None]
    if plan.screened:
        shapes = screen_shapes(*_shape(plan.head or plan.embedding))
        sizes += [math.prod(shapes[0]), 4 * math.prod(shapes[1])]
    return total + sum(sizes)


def _peak(
    plan: DecoderPlan,
    checkpoint: Checkpoint,
    floats: Mapping[MatrixPlan, _Floats],
    packed: Sequence[int],
) -> int:
    """The most that is in memory at a time, in the order of loading: decoded blocks first, with the
    pages that they came from; then each matrix with the pages that it is packed from; then the
    screen, for which all of the head is read."""
    tied_twice = plan.head is None and plan.embedding in floats and "lm_head.weight" in checkpoint
    kept = sum(found.nbytes + found.source for found in floats.values() if not found.mapped)
    if tied_twice:  # it is compared with the embedding
        kept += floats[plan.embedding].nbytes * floats[plan.embedding].mapped
        peak = kept + floats[plan.embedding].nbytes + floats[plan.embedding].source
    else:
        peak = kept
    sources = [
        checkpoint.info(matrix.name).nbytes for matrix in plan.matrices if matrix.layout is not None
    ]
    for end, source in enumerate(sources, 1):
        peak = max(peak, kept + arena_bytes(packed[:end]) + source)
    kept += arena_bytes(packed)
    if plan.screened and not tied_twice:
        found = floats[plan.head or plan.embedding]
        kept += found.nbytes * found.mapped
    return max(peak, kept)


@dataclass(frozen=True)
class _Floats:
    """A float matrix in memory: its bytes; whether they are pages of the file; and if they are not,
    the bytes that they were decoded from."""

    nbytes: int
    mapped: bool
    source: int = 0


def _floats(matrix: MatrixPlan, checkpoint: Checkpoint) -> _Floats:
    info = checkpoint.info(matrix.name)
    if info.dtype in FLOAT_DTYPES:
        return _Floats(info.nbytes, mapped=True)
    return _Floats(4 * matrix.rows * matrix.columns, mapped=False, source=info.nbytes)


def _shape(matrix: MatrixPlan) -> tuple[int, int]:
    return matrix.rows, matrix.columns


def _storage(matrix: MatrixPlan) -> int:
    assert matrix.layout is not None
    return math.prod(storage_shape(matrix.rows, matrix.columns, matrix.layout))


def pass_bytes(plan: DecoderPlan, rows: int, threads: int) -> int:
    """Activations and scratch memory of a pass of so many tokens, and the buffers of the screen.
    Positions (RoPE) and keys and values are not in it."""
    config = plan.description.config
    hidden, ffn, q_width = config.hidden_size, config.intermediate_size, config.q_width
    widest = max(hidden, ffn, q_width)
    own_gate = bool(plan.layers[0].projection_norms) or not {"gate", "up"}.isdisjoint(
        plan.layers[0].biases
    )
    floats = hidden + (q_width + 2 * config.kv_width) + q_width + ffn + own_gate * ffn
    added = {"attention_output_norm", "ffn_output_norm"} & set(plan.layers[0].norms)
    floats += hidden if added or config.residual_multiplier != 1 else 0
    if plan.activations == "none":
        floats += widest
    group = GROUP_LAYOUTS.get(plan.group_layout or "", widest)
    codes = widest + 512 + 8 * -(-widest // group)
    head = 4 * config.vocab_size * (4 if plan.screened else 1)
    # of each thread: a row in floats and some results, and a page between two of them
    scratch = threads * (4 * widest + 16384)
    return rows * (4 * floats + codes) + head + scratch
