"""Numbers as people write them."""

from __future__ import annotations

__all__ = ["count", "duration", "size"]


def count(number: int, what: str) -> str:
    """The number and the thing, in the plural unless there is one: 1 file, 1,204 files."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def duration(seconds: float | None) -> str:
    """95 s, 23 min or 1 h 05 min; a question mark for None."""
    if seconds is None:
        return "?"
    if round(seconds) < 120:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min"


def size(number: int) -> str:
    """Of bytes: 950 bytes, 329 KB or 20.8 MB."""
    if number < 1000:
        return count(number, "byte")
    return f"{number / 1e3:,.0f} KB" if number < 1e6 else f"{number / 1e6:,.1f} MB"
