"""Which kernels a planned decoder will use, and with what sizes: for the self-test at load."""

from __future__ import annotations

from collections.abc import Iterator

from ..formats import Checkpoint
from ..kernels.kernel_use import KernelUse
from ..kernels.packing import GROUP_LAYOUTS
from .plan import DecoderPlan, MatrixPlan
from .projections import FLOAT_DTYPES

__all__ = ["kernel_uses"]


def kernel_uses(plan: DecoderPlan, checkpoint: Checkpoint, kv_kind: str) -> list[KernelUse]:
    """Each use once, in the order of a pass.

    Parameters
    ----------
    kv_kind : str
        A value of KV_DTYPES: how keys and values are stored.
    """
    return list(dict.fromkeys(_uses(plan, checkpoint, kv_kind)))


def _uses(plan: DecoderPlan, checkpoint: Checkpoint, kv_kind: str) -> Iterator[KernelUse]:
    config = plan.description.config
    for layer in plan.layers:
        for norm in (*layer.norms.values(), *layer.projection_norms.values()):
            yield KernelUse("rms_norm", columns=norm.size)
        for matrix in layer.matrices.values():
            yield from _products(plan, matrix)
    head_dim = config.head_dim
    yield KernelUse("rope", columns=head_dim)
    yield KernelUse("kv_append", kv_kind, head_dim)
    yield KernelUse("attend_block", kv_kind, head_dim)
    yield KernelUse("attend_combine", columns=head_dim)
    yield KernelUse("attend_finish", columns=head_dim)
    yield KernelUse("activate_gated", config.activation, config.intermediate_size)
    yield KernelUse("rms_norm", columns=plan.final_norm.size)
    head = plan.head or plan.embedding
    if head.layout is not None:
        yield from _products(plan, head)
    else:
        dtype = checkpoint.info(head.name).dtype
        kind = dtype if dtype in FLOAT_DTYPES else "F32"  # blocks of GGUF are decoded
        yield KernelUse("dense_matmul", kind, head.columns)
        yield KernelUse("dense_rows", kind, head.columns)
    if plan.screened:
        yield KernelUse("screen", columns=head.columns)
    yield KernelUse("softmax_weights")  # of the sampler
    yield KernelUse("exp")


def _products(plan: DecoderPlan, matrix: MatrixPlan) -> Iterator[KernelUse]:
    """The product of a ternary matrix, and how its input is quantised."""
    layout, rows, columns = matrix.layout or "", matrix.rows, matrix.columns
    group = GROUP_LAYOUTS.get(layout)
    if plan.activations != "none":
        yield KernelUse("quantize", columns=columns)
    if group is not None:
        if plan.activations == "group":
            for width in {min(group, columns), columns % group or group}:
                yield KernelUse("quantize", columns=width)
        kernel = "group_matmul_floats" if plan.activations == "none" else "group_matmul"
        yield KernelUse(kernel, layout, columns, min(rows, _PANEL))
        return
    if layout == "tables":
        yield KernelUse("ternary_tables", columns=columns)
    yield KernelUse("ternary_matmul", layout, columns, min(rows, _PANEL))
    if layout in ("rows", "trit_rows"):
        yield KernelUse("ternary_rows", layout, columns, min(rows, _PANEL))
    if layout in ("columns", "trit_columns"):
        yield KernelUse("ternary_columns_finish", layout, columns, rows)
        yield KernelUse("ternary_columns", layout, columns, rows)


_PANEL = 64
"""Rows of a matrix of which the self-test looks at no more: then equal widths are one use."""
