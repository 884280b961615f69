"""Text that may be the beginning of a tag, and is held back until that is decided."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["undecided"]


def undecided(text: str, tags: Iterable[str]) -> int:
    """The number of characters at the end of `text` that begin one of `tags` without completing
    it; the largest of them."""
    longest = 0
    for tag in tags:
        for size in range(min(len(tag) - 1, len(text)), longest, -1):
            if tag.startswith(text[-size:]):
                longest = size
                break
    return longest
