"""A profile as tables."""

from __future__ import annotations

from collections.abc import Sequence

from ..text_table import Block, Table, number, plural
from .operations import Limits, OperationTime, Phase

__all__ = ["blocks"]


def blocks(
    phases: Sequence[Phase], seconds: float, rest_seconds: float, limits: Limits | None
) -> list[Block]:
    """The whole profile: tables for each phase, and their shares of the total time."""
    found: list[Block] = []
    for phase in phases:
        found += _phase(phase, limits)
    parts = [(phase.name, phase.seconds) for phase in phases]
    parts.append(("the rest", rest_seconds))
    whole = ", ".join(f"{name} {_share(part, seconds)}" for name, part in parts)
    rest = f"{1e3 * seconds:.1f} ms in all: {whole}"
    if limits:
        rest += (
            f"\nlimits: {limits.bytes_per_second / 1e9:.1f} GB/s from memory (a CPU cache may give "
            f"more), {limits.multiply_adds_per_second / 1e9:.0f} GMAC/s at the peak of int8"
        )
    return [*found, rest]


def _phase(phase: Phase, limits: Limits | None) -> list[Block]:
    """Two tables: where the time went, and the bytes and multiply-adds of operations that read
    weights or the cache."""
    each = 1e3 * phase.seconds / phase.tokens
    title = (
        f"{phase.name}: {phase.passes} pass{'' if phase.passes == 1 else 'es'}, "
        f"{plural(phase.tokens, 'token')}, {number(each)} ms a token"
    )
    times = [["operation", "us/token", "share", "waiting", "calls"]]
    times += [_times(operation, phase) for operation in phase.operations]
    header = ["a token", "MB", "GB/s", *(["of limit"] if limits else [])]
    header += ["MMAC", "GMAC/s", *(["of peak"] if limits else [])]
    works = [header]
    works += [_work(operation, phase, limits) for operation in phase.operations if operation.bytes]
    return [Table(title, times), Table("", works)]


def _times(operation: OperationTime, phase: Phase) -> list[str]:
    return [
        operation.title,
        number(1e6 * operation.seconds / phase.tokens),
        _share(operation.seconds, phase.seconds),
        _share(operation.wait_seconds, operation.seconds) if operation.calls else "",
        str(operation.calls or ""),
    ]


def _work(operation: OperationTime, phase: Phase, limits: Limits | None) -> list[str]:
    rate, products = operation.bytes_per_second, operation.multiply_adds_per_second
    line = [operation.title, number(operation.bytes / 1e6 / phase.tokens), number(rate / 1e9)]
    if limits:
        line.append(_share(rate, limits.bytes_per_second))
    amount = operation.multiply_adds / 1e6 / phase.tokens
    line += [number(amount), number(products / 1e9)] if products else ["", ""]
    if limits:
        int8 = operation.kind == "int8"
        line.append(_share(products, limits.multiply_adds_per_second) if int8 else "")
    return line


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.1%}" if whole else ""
