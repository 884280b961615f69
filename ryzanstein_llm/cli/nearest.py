"""Suggestions for mistyped names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["nearest"]


def nearest(name: str, names: Iterable[str]) -> str:
    """Such as "did you mean list?". Empty if no name is similar."""
    names = list(names)
    begin = [known for known in names if len(name) > 1 and known.startswith(name)]
    close = begin or difflib.get_close_matches(name, names, 1)
    return f"did you mean {close[0]}?" if close else ""
