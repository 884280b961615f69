"""What a chat template may use: time, and characters of text. Knows no Jinja.

What one operation could blow up at once, such as `"a" * 10**10`, is refused before it happens.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Mapping, Sized
from typing import Any

__all__ = [
    "Budget", "LimitError", "budget", "check_container", "check_conversions", "check_filter",
    "check_method", "check_operation", "check_specification", "spend_on", "weigh",
]  # fmt: skip

LARGEST_WIDTH = 100_000
"""Widths, precisions and counts that a template may ask for."""

LARGEST_INTEGER = 10_000
"""Bits that a product or power of integers may have."""

LARGEST_CONTAINER = 1_000_000
"""Entries of a list or dictionary, with those of the lists within it."""

# Methods of texts that templates do not need, and that can enlarge a text a lot
REMOVED_METHODS = {"translate", "maketrans", "encode", "expandtabs"}

# Methods and filters that take a width or a count
PADDING = {"center", "ljust", "rjust", "zfill", "indent", "batch", "slice", "round", "wordwrap"}

# Of formats for `%`: the width and the precision of each place
CONVERSION = re.compile(r"%(?:\([^)]*\))?[-#0 +_^EO]*(\*|\d*)(?:\.(\*|\d*))?")


class LimitError(Exception):
    """A template goes beyond its limits."""


_running = threading.local()


class Budget:
    """What one rendering may use. A context manager: within it, the thread spends of this budget.

    Parameters
    ----------
    seconds : float
        CPU time of this thread, so that a busy machine does not matter.
    characters : int
        Of all texts that are made on the way, together.
    """

    def __init__(self, seconds: float, characters: int) -> None:
        self.seconds, self.characters = seconds, characters
        self._deadline = time.thread_time() + seconds
        self._left = characters
        self._ticks = 0

    def __enter__(self) -> Budget:
        self._outer = getattr(_running, "budget", None)
        _running.budget = self
        return self

    def __exit__(self, *_: object) -> None:
        _running.budget = self._outer

    def tick(self) -> None:
        """A step of the template was taken."""
        self._ticks += 1
        if not self._ticks & 31 and time.thread_time() > self._deadline:
            raise LimitError(f"it takes longer than {self.seconds:g} s")

    def spend(self, characters: int) -> None:
        """A text of this length is about to be made."""
        self._left -= characters
        if self._left < 0:
            raise LimitError(f"it makes more than {self.characters:,} characters of text")
        self.tick()


def budget() -> Budget:
    """That of the running template."""
    found: Budget = _running.budget
    return found


def weigh(value: Any) -> int:
    """Characters and entries of a value, with all that is in it, each time it is in it. Spends a
    step for each, so that what is nested and shared cannot hide its size."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, Mapping):
        parts: Any = [*value.keys(), *value.values()]
    elif isinstance(value, (list, tuple, set, frozenset)):
        parts = value
    else:
        return 8
    total = 2
    for part in parts:
        budget().tick()
        total += 4 + weigh(part)
        if total > budget().characters:
            raise LimitError(f"a value is larger than {budget().characters:,} characters")
    return total


def check_container(value: Any) -> None:
    """A list, tuple or dictionary that was made."""
    if weigh(value) > LARGEST_CONTAINER:
        raise LimitError(f"a container holds more than {LARGEST_CONTAINER:,} entries")


def spend_on(result: Any) -> None:
    """What an operation made. Entries of containers take more memory than characters."""
    for kind, size in ((str, 1), (list, 4), (tuple, 4), (dict, 10)):
        if isinstance(result, kind):
            budget().spend(size * len(result))


def check_operation(operator: str, left: Any, right: Any) -> None:
    """An operator, before it is applied."""
    budget().tick()
    if operator == "**":
        if isinstance(left, int) and isinstance(right, int):
            _check_bits(left.bit_length() * abs(right))
    elif operator == "*":
        if isinstance(left, int) and isinstance(right, int):
            _check_bits(left.bit_length() + right.bit_length())
        for values, count in ((left, right), (right, left)):
            if isinstance(values, (str, list, tuple)) and isinstance(count, int):
                _check_length(values, len(values) * max(count, 0))
    elif operator == "+" and isinstance(left, Sized) and isinstance(right, Sized):
        _check_length(left, len(left) + len(right))
    elif operator == "%" and isinstance(left, str):
        check_conversions(left)
        budget().spend(len(left) + weigh(right))


def _check_bits(bits: int) -> None:
    if bits > LARGEST_INTEGER:
        raise LimitError(f"an integer would have more than {LARGEST_INTEGER:,} bits")


def _check_length(values: Sized, length: int) -> None:
    if not isinstance(values, str) and length > LARGEST_CONTAINER:
        raise LimitError(f"a container would hold more than {LARGEST_CONTAINER:,} entries")
    budget().spend(length if isinstance(values, str) else 4 * length)


def check_conversions(text: str) -> None:
    """Widths in a format for `%` or `strftime`, such as `"%5d"`. Those in `"%*d"` are numbers among
    the values."""
    for found in CONVERSION.findall(text):
        for width in found:
            _check_width(width, text)


def check_specification(text: str) -> None:
    """Widths in a part of a format for `str.format`, such as `">5"`."""
    for width in re.findall(r"\d+", text):
        _check_width(width, text)


def _check_width(width: str, text: str) -> None:
    if width == "*" or len(width) > 9 or (width and int(width) > LARGEST_WIDTH):
        raise LimitError(f"the format {text[:60]!r} may be wider than {LARGEST_WIDTH:,}")


def check_method(name: str, value: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """A method of a text, before it is called."""
    if name in REMOVED_METHODS:
        raise LimitError(f"templates cannot use {name!r}")
    if name == "join" and args:
        _check_join(args[0], value)
    elif name in ("split", "rsplit", "splitlines"):
        budget().spend(4 * len(value))  # a part takes more memory than its characters
    else:
        _check_growth(name, value, [*args, *kwargs.values()])


def check_filter(name: str, value: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """A filter, before it is called."""
    given = [*args, *kwargs.values()]
    if name == "join":
        _check_join(value, given)
    elif name == "format":
        check_conversions(str(value))
        budget().spend(len(str(value)) + weigh(given))
    elif name == "list" and isinstance(value, Sized):
        _check_length([], len(value))
    elif name == "indent":
        widths = [each for each in given if isinstance(each, int)]
        _check_growth(name, value, given)
        budget().spend(max([4, *widths]) * (str(value).count("\n") + 1))
    elif name in ("string", "upper", "lower", "title", "capitalize", "e", "escape", "urlencode"):
        budget().spend(0 if isinstance(value, str) else weigh(value))
    else:
        _check_growth(name, value, given)


def _check_join(parts: Any, between: Any) -> None:
    count = len(parts) if isinstance(parts, Sized) else 1
    budget().spend(weigh(parts) + weigh(between) * count)


def _check_growth(name: str, value: Any, given: list[Any]) -> None:
    """What may make a text or a list much longer than it was."""
    if name == "replace" and len(given) >= 2:
        old, new = str(given[0]), str(given[1])
        budget().spend(str(value).count(old) * len(new))
    elif name in PADDING:
        for argument in given:
            if isinstance(argument, str):
                budget().spend(len(argument) * (weigh(value) + 1))
            elif isinstance(argument, (int, float)) and not abs(argument) <= LARGEST_WIDTH:
                raise LimitError(f"{name} is limited to {LARGEST_WIDTH:,}, not {argument}")
