"""Whether there is room for a model, before it is loaded."""

from __future__ import annotations

from dataclasses import replace

from ..errors import MemoryLimitError, UnsupportedModelError
from ..formats import Checkpoint
from ..packed_cache import LEAST_BYTES
from ..system.memory import memory_limit
from ..text_table import format_bytes
from .base import LoadOptions
from .memory import packed_bytes, private_bytes
from .plan import WEIGHT_FORMATS, DecoderPlan, plan_decoder

__all__ = ["refuse_too_large"]


def refuse_too_large(
    checkpoint: Checkpoint, plan: DecoderPlan, options: LoadOptions, *, mapped: bool
) -> None:
    """Refuse a model whose weights cannot be in memory. What is mapped from files is not counted,
    since the system reclaims its pages, nor are keys and values, which grow with the texts.

    Parameters
    ----------
    mapped : bool
        Whether packed weights will be mapped from a file.

    Raises
    ------
    MemoryLimitError
    """
    limit = memory_limit()
    needed = private_bytes(plan, checkpoint, mapped=mapped)
    if limit is None or needed <= limit.total:
        return
    swap = f" and {format_bytes(limit.swap)} of swap" if limit.swap else ""
    what = "its floats" if mapped else "packing its weights"
    raise MemoryLimitError(
        f"{checkpoint.path}: {what} takes {format_bytes(needed)} of memory, and {limit.source} "
        f"allows {format_bytes(limit.nbytes)}{swap}; {_advice(checkpoint, plan, options, mapped)}",
        needed,
        limit.total,
        limit.source,
    )


def _advice(checkpoint: Checkpoint, plan: DecoderPlan, options: LoadOptions, mapped: bool) -> str:
    raised = "raise that limit"
    if mapped:
        return raised
    smallest = _smallest_format(checkpoint, plan, options)
    if smallest is not None:
        raised = f"use {smallest}, or {raised}"
    if packed_bytes(plan) < LEAST_BYTES:
        return raised
    return (
        f"{raised}, or name a directory as packed_cache that this process can write: packed "
        "weights are then mapped from a file there"
    )


def _smallest_format(checkpoint: Checkpoint, plan: DecoderPlan, options: LoadOptions) -> str | None:
    """A weight_format that fits, as Python spells it."""
    limit = memory_limit()
    for name in WEIGHT_FORMATS:
        try:
            other = plan_decoder(checkpoint, replace(options, weight_format=name), plan.description)
        except UnsupportedModelError:
            continue  # with scales of groups there is one format
        needed = private_bytes(other, checkpoint, mapped=False)
        if limit is not None and needed <= limit.total:
            return f"weight_format={name!r}, which takes {format_bytes(needed)}"
    return None
