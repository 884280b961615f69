"""The operations of a profile, with those that hardly count added up."""

from __future__ import annotations

from ryzanstein_llm.profiling.operations import TITLES

from .results import Found

__all__ = ["OTHERS", "added_up"]

LEAST_SHARE = 0.01
OTHERS = "all others"
SUMS = ("seconds", "wait_seconds", "bytes", "multiply_adds")


def added_up(phase: Found) -> dict[str, dict[str, float]]:
    """By title, the longest first; those below a hundredth of the phase as one, at the end.

    Each has "seconds", of them "wait_seconds" and "python_seconds", "bytes" and "multiply_adds".
    """
    least = LEAST_SHARE * phase["seconds"]
    found: dict[str, dict[str, float]] = {}
    for operation in sorted(phase["operations"], key=lambda o: -o["seconds"]):
        title = TITLES[operation["name"]] if operation["seconds"] >= least else OTHERS
        sums = found.setdefault(title, dict.fromkeys((*SUMS, "python_seconds"), 0.0))
        for key in SUMS:
            sums[key] += operation[key]
        if not operation["calls"]:
            sums["python_seconds"] += operation["seconds"]
    return found
