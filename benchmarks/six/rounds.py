"""A and B in turns: what the machine does meanwhile falls on all alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

__all__ = ["in_turns", "ratio", "seconds_of"]


def seconds_of(call: Callable[[], Any]) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def in_turns(calls: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Values of each call, round after round; every second round goes backwards. One round before
    them is not recorded."""
    values: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(-1, rounds):
        names = list(calls) if number % 2 else list(reversed(calls))
        for name in names:
            value = calls[name]()
            if number >= 0:
                values[name].append(value)
    return values


def ratio(above: list[float], below: list[float]) -> float:
    """Median of the ratios within rounds."""
    return median(a / b for a, b in zip(above, below, strict=True))
