"""Shared by commands: what happens when the context is full."""

from __future__ import annotations

from collections.abc import Callable

from .command import Decorated, option

__all__ = ["overflow_option"]

OVERFLOWS = ("error", "truncate", "shift")


def overflow_option(section: str, help: str) -> Callable[[Decorated], Decorated]:
    return option(
        "--overflow",
        metavar="WHAT",
        section=section,
        shell_complete=lambda context, param, begin: [k for k in OVERFLOWS if k.startswith(begin)],
        help=help,
    )
