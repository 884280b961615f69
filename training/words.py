"""Numbers as people write them."""

from __future__ import annotations

__all__ = ["count", "duration"]


def count(number: int, what: str) -> str:
    """The number and the thing, in the plural unless there is one: 1 file, 1,204 files."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def duration(seconds: float | None) -> str:
    """40 s, 23 min or 1 h 05 min; a question mark for None."""
    if seconds is None:
        return "?"
    if round(seconds) < 60:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min"
