"""A profile as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..text_table import Block, Table, number, plural
from .operations import Limits, OperationTime, Phase

if TYPE_CHECKING:
    from .profile import Profile

__all__ = ["blocks"]


def blocks(profile: Profile, limits: Limits | None) -> list[Block]:
    """All of it: a table for each phase, and what they are parts of."""
    found: list[Block] = [_phase(phase, limits) for phase in profile.phases]
    parts = [(phase.name, phase.seconds) for phase in profile.phases]
    parts.append(("the rest", profile.rest_seconds))
    whole = ", ".join(f"{name} {_share(seconds, profile.seconds)}" for name, seconds in parts)
    rest = f"{1e3 * profile.seconds:.1f} ms in all: {whole}"
    if limits:
        rest += (
            f"\nlimits: {limits.bytes_per_second / 1e9:.1f} GB/s from memory (what a CPU cache "
            f"holds may come faster), {limits.multiply_adds_per_second / 1e9:.0f} int8 GMAC/s"
        )
    return [*found, rest]


def _phase(phase: Phase, limits: Limits | None) -> Table:
    each = 1e3 * phase.seconds / phase.tokens
    title = (
        f"{phase.name}: {phase.passes} pass{'' if phase.passes == 1 else 'es'}, "
        f"{plural(phase.tokens, 'token')}, {number(each)} ms a token"
    )
    header = ["operation", "us/token", "share", "waiting", "calls", "MB/token", "GB/s"]
    header += ["of limit"] if limits else []
    header += ["MMAC/token", "GMAC/s"]
    header += ["of int8 peak"] if limits else []
    lines = [header]
    lines += [_line(operation, phase, limits) for operation in phase.operations]
    return Table(title, lines)


def _line(operation: OperationTime, phase: Phase, limits: Limits | None) -> list[str]:
    seconds, tokens = operation.seconds, phase.tokens
    line = [
        operation.title,
        number(1e6 * seconds / tokens),
        _share(seconds, phase.seconds),
        _share(operation.wait_seconds, seconds) if operation.calls else "",
        str(operation.calls or ""),
    ]
    rate, products = operation.bytes_per_second, operation.multiply_adds_per_second
    line += [number(operation.bytes / 1e6 / tokens), number(rate / 1e9)] if rate else ["", ""]
    if limits:
        line.append(_share(rate, limits.bytes_per_second) if rate else "")
    amount = operation.multiply_adds / 1e6 / tokens
    line += [number(amount), number(products / 1e9)] if products else ["", ""]
    if limits:
        int8 = operation.kind == "int8"
        line.append(_share(products, limits.multiply_adds_per_second) if int8 else "")
    return line


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.1%}" if whole else ""
