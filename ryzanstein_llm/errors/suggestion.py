"""What somebody may have meant who mistyped a name."""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches

__all__ = ["did_you_mean"]

LEAST_RATIO = 0.7
"""Of letters that are equal and in order. Two letters that have changed places in a word of four
are 0.75; `json` and `revision` are 0.5."""


def did_you_mean(name: str, known: Collection[str]) -> str:
    """Such as "did you mean top_k?". Empty if no known name is similar."""
    begin = [each for each in known if len(name) > 1 and each.startswith(name)]
    words = {each.lstrip("-"): each for each in known}  # hyphens make no two options alike
    near = begin or [
        words[each] for each in get_close_matches(name.lstrip("-"), words, 1, LEAST_RATIO)
    ]
    return f"did you mean {near[0]}?" if near else ""
