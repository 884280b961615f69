"""Whether there is room for a model, before it is loaded."""

from __future__ import annotations

from dataclasses import replace

from ..errors import MemoryLimitError, UnsupportedModelError
from ..formats import Checkpoint
from ..system.memory import memory_limit
from ..text_table import format_bytes
from .base import LoadOptions
from .memory import private_bytes
from .plan import WEIGHT_FORMATS, DecoderPlan, plan_decoder

__all__ = ["refuse_too_large"]


def refuse_too_large(
    checkpoint: Checkpoint, plan: DecoderPlan, options: LoadOptions, *, packed: bool
) -> None:
    """Refuse a model whose weights cannot be in memory. What is mapped from files is not counted,
    since the system reclaims its pages, nor are keys and values, which grow with the texts.

    Parameters
    ----------
    packed : bool
        Whether packed weights are mapped from a file.

    Raises
    ------
    MemoryLimitError
    """
    limit = memory_limit()
    needed = private_bytes(plan, checkpoint, packed=packed)
    if limit is None or needed <= limit.total:
        return
    swap = f" and {format_bytes(limit.swap)} of swap" if limit.swap else ""
    what = "its floats" if packed else "packing its weights"
    raise MemoryLimitError(
        f"{checkpoint.path}: {what} takes {format_bytes(needed)} of memory, and {limit.source} "
        f"allows {format_bytes(limit.nbytes)}{swap}; {_advice(checkpoint, plan, options, packed)}",
        needed,
        limit.total,
        limit.source,
    )


def _advice(checkpoint: Checkpoint, plan: DecoderPlan, options: LoadOptions, packed: bool) -> str:
    raised = "raise that limit"
    if packed:
        return raised
    smallest = _smallest_format(checkpoint, plan, options)
    if smallest is not None:
        raised = f"use {smallest}, or {raised}"
    mapped = format_bytes(private_bytes(plan, checkpoint, packed=True))
    return (
        f"{raised}, or open it once where there is more memory, with a packed_cache that this "
        f"process reads too: its packed weights are then mapped from there, and {mapped} are enough"
    )


def _smallest_format(checkpoint: Checkpoint, plan: DecoderPlan, options: LoadOptions) -> str | None:
    """A weight_format that fits, as Python spells it."""
    limit = memory_limit()
    for name in WEIGHT_FORMATS:
        try:
            other = plan_decoder(checkpoint, replace(options, weight_format=name), plan.description)
        except UnsupportedModelError:
            continue  # with scales of groups there is one format
        needed = private_bytes(other, checkpoint, packed=False)
        if limit is not None and needed <= limit.total:
            return f"weight_format={name!r}, which takes {format_bytes(needed)}"
    return None
