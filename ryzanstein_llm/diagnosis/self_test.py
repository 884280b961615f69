"""The self-test of the kernels, of all tiers that this CPU can run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from ..kernels import cpu
from ..kernels.kernel_use import KernelUse
from ..kernels.linear import ACTIVATIONS
from ..kernels.packing import GROUP_LAYOUTS, LAYOUTS
from ..kernels.self_test import failing_kernels

__all__ = ["test_all_tiers"]

HIDDEN, FFN, HEAD_DIM = 2560, 6912, 128
"""The widths of BitNet b1.58 2B4T, and the commonest size of heads."""

ODD = 331
"""A width that leaves a rest in every kernel."""


def test_all_tiers() -> list[dict[str, Any]]:
    """For each available tier, best first: tier, seconds, kernels (how many uses were checked), and
    failing (those that gave other bits than portable C, as text)."""
    uses = list(dict.fromkeys(_uses()))
    found = []
    for tier in cpu.available_tiers():
        begin = time.perf_counter()
        # the tier in use by its table, which is what models read
        own = None if tier == cpu.current_tier() else tier
        failing = failing_kernels(uses, own)
        found.append(
            {
                "tier": tier,
                "seconds": time.perf_counter() - begin,
                "kernels": 0 if tier == "scalar" else len(uses),
                "failing": [_text(use) for use in failing],
            }
        )
    return found


test_all_tiers.__test__ = False  # type: ignore[attr-defined]  # its name is no test's


def _text(use: KernelUse) -> str:
    what = f"{use.kernel} ({use.which})" if use.which else use.kernel
    return f"{what} of {use.columns} columns" if use.columns else what


def _uses() -> Iterator[KernelUse]:
    """All kernels in all their kinds."""
    for columns in (HIDDEN, FFN, ODD):
        for name in ("rms_norm", "layer_norm", "quantize", "ternary_tables", "screen"):
            yield KernelUse(name, columns=columns)
        for layout in LAYOUTS:
            yield KernelUse("ternary_matmul", layout, columns, 64)
        for layout in ("rows", "trit_rows"):
            yield KernelUse("ternary_rows", layout, columns, 64)
        for layout in ("columns", "trit_columns"):
            yield KernelUse("ternary_columns_finish", layout, columns, HIDDEN)
            yield KernelUse("ternary_columns", layout, columns, HIDDEN)
        for layout in GROUP_LAYOUTS:
            yield KernelUse("group_matmul", layout, columns, 64)
            yield KernelUse("group_matmul_floats", layout, columns, 64)
        for kind in ("F32", "F16", "BF16"):
            yield KernelUse("dense_matmul", kind, columns)
            yield KernelUse("dense_rows", kind, columns)
        for activation in ACTIVATIONS:
            yield KernelUse("activate", activation, columns)
            yield KernelUse("activate_gated", activation, columns)
    for name in ("softmax_weights", "exp"):
        yield KernelUse(name)
    for head_dim in (HEAD_DIM, 82):
        for name in ("rope", "attend_combine", "attend_finish"):
            yield KernelUse(name, columns=head_dim)
        for kind in ("float32", "bfloat16", "int8"):
            yield KernelUse("kv_append", kind, head_dim)
            yield KernelUse("attend_block", kind, head_dim)
