"""How much memory the weights and the passes of a planned decoder take."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..formats import Checkpoint
from ..kernels.linear import layer_scratch
from ..kernels.packing import GROUP_LAYOUTS, screen_shapes, storage_shape
from ..packed_cache import BYTES_AHEAD, keeps_file
from .arena import arena_bytes
from .plan import DecoderPlan, MatrixPlan
from .projections import FLOAT_DTYPES

__all__ = ["WeightMemory", "packed_bytes", "pass_bytes", "private_bytes", "weight_memory"]

PAGE = 4096


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


def weight_memory(
    plan: DecoderPlan, checkpoint: Checkpoint, directory: Path | None = None
) -> WeightMemory:
    """What the weights take when they are loaded. Only shapes are looked at.

    Parameters
    ----------
    directory : Path or None
        Where packed weights are kept. The peak is that of a start that finds none there.
    """
    outside = [plan.embedding] if plan.head is None else [plan.embedding, plan.head]
    floats = {matrix: _floats(matrix, checkpoint) for matrix in outside if matrix.layout is None}
    ternary = sum(_storage(matrix) for matrix in outside if matrix.layout is not None)
    packed = [_storage(matrix) for matrix in plan.matrices if matrix.layout is not None]
    blocks = stats = 0
    if plan.screened:
        shapes = screen_shapes(*_shape(plan.head or plan.embedding))
        blocks, stats = math.prod(shapes[0]), 4 * math.prod(shapes[1])
        packed.append(blocks)
    vectors = 4 * sum(vector.size for vector in plan.vectors)
    if keeps_file(directory, packed_bytes(plan)):
        peak, total = _peak_with_file, sum(packed)
    else:  # what pages of the arena take more than arrays counts as weights
        peak, total = _peak_in_memory, arena_bytes(packed)
    return WeightMemory(
        total - ternary - blocks + vectors,
        ternary + sum(found.nbytes for found in floats.values()),
        sum(found.nbytes for found in floats.values() if found.mapped),
        blocks + stats,
        peak(plan, checkpoint, floats, packed) + stats + vectors,
    )


def packed_bytes(plan: DecoderPlan) -> int:
    """Bytes of everything that is packed: ternary matrices, and the screen of the head."""
    total = sum(_storage(matrix) for matrix in plan.matrices if matrix.layout is not None)
    if plan.screened:
        blocks, stats = screen_shapes(*_shape(plan.head or plan.embedding))
        total += math.prod(blocks) + 4 * math.prod(stats)
    return total


def private_bytes(plan: DecoderPlan, checkpoint: Checkpoint, *, mapped: bool) -> int:
    """The least memory that loading takes and the system cannot reclaim: without pages of files.

    Parameters
    ----------
    mapped : bool
        Whether packed weights are mapped from a file. Otherwise they stay in memory.
    """
    outside = [plan.embedding] if plan.head is None else [plan.embedding, plan.head]
    floats = [_floats(matrix, checkpoint) for matrix in outside if matrix.layout is None]
    total = sum(found.nbytes for found in floats if not found.mapped)
    total += 4 * sum(vector.size for vector in plan.vectors)
    total += pass_bytes(plan, 1, 1)
    return total if mapped else total + packed_bytes(plan)


Floats = Mapping[MatrixPlan, "_Floats"]


def _peak_in_memory(
    plan: DecoderPlan, checkpoint: Checkpoint, floats: Floats, packed: Sequence[int]
) -> int:
    """The most that is in memory at a time, in the order of loading: floats first; then each matrix
    in the arena, with the pages that it is packed from; then the screen, for which all of the head
    is read."""
    kept, peak = _floats_first(plan, checkpoint, floats)
    for end, source in enumerate(_sources(plan, checkpoint), 1):
        peak = max(peak, kept + arena_bytes(packed[:end]) + source)
    return max(peak, kept + arena_bytes(packed) + _head_pages(plan, floats))


def _peak_with_file(
    plan: DecoderPlan, checkpoint: Checkpoint, floats: Floats, packed: Sequence[int]
) -> int:
    """The same if weights are written to a file: floats first; then the screen, with the pages of
    the head; then each matrix with the pages that it is packed from and with what waits to be
    written; in the end all of the file, which is mapped."""
    kept, peak = _floats_first(plan, checkpoint, floats)
    waiting = 0
    matrices = list(packed)
    if plan.screened:
        waiting = matrices.pop()
        peak = max(peak, kept + waiting + _head_pages(plan, floats))
    for size, source in zip(matrices, _sources(plan, checkpoint), strict=True):
        peak = max(peak, kept + waiting + size + source)
        waiting = size if waiting + size > BYTES_AHEAD else waiting + size
    return max(peak, kept + sum(packed))


def _floats_first(plan: DecoderPlan, checkpoint: Checkpoint, floats: Floats) -> tuple[int, int]:
    """(what stays in memory, the most that is in memory) when floats have been read: blocks are
    decoded, and an embedding is compared with a head that is stored too."""
    kept = peak = 0
    for found in floats.values():
        decoded = 0 if found.mapped else found.nbytes
        peak = max(peak, kept + decoded + found.source)
        kept += decoded
    if plan.head is None and plan.embedding in floats and "lm_head.weight" in checkpoint:
        embedding = floats[plan.embedding]
        pages = embedding.nbytes if embedding.mapped else 0
        peak = max(peak, kept + pages + embedding.nbytes + embedding.source)
    return kept, peak


def _head_pages(plan: DecoderPlan, floats: Floats) -> int:
    """Bytes of the head that become mapped when its screen is packed."""
    head = floats[plan.head or plan.embedding] if plan.screened else None
    return head.nbytes if head is not None and head.mapped else 0


def _sources(plan: DecoderPlan, checkpoint: Checkpoint) -> list[int]:
    return [
        checkpoint.info(matrix.name).nbytes for matrix in plan.matrices if matrix.layout is not None
    ]


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
    # of each thread in whole pages, and a page between two threads
    scratch = (-(-layer_scratch(hidden, widest, rows) // PAGE) + 1) * PAGE
    return rows * (4 * floats + codes) + head + threads * scratch
