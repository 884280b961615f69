"""Suggestions for mistyped names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["nearest"]

LEAST_RATIO = 0.7
"""Of letters that are equal and in order. Two letters that have changed places in a word of four
are 0.75; `json` and `revision` are 0.5."""


def nearest(name: str, names: Iterable[str]) -> str:
    """Such as "did you mean list?". Empty if no name is similar."""
    names = list(names)
    begin = [known for known in names if len(name) > 1 and known.startswith(name)]
    if begin:
        return f"did you mean {begin[0]}?"
    words = {known.lstrip("-"): known for known in names}  # hyphens make no two options alike
    close = difflib.get_close_matches(name.lstrip("-"), words, 1, LEAST_RATIO)
    return f"did you mean {words[close[0]]}?" if close else ""
