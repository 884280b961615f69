"""Checks of arguments. Each returns the value in its plain Python type, or raises
`InvalidParameterError` with the argument's name, its range and the value."""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from .errors import ContextOverflowError, InvalidParameterError
from .errors.request import LONGER_CONTEXT

__all__ = [
    "check_bool",
    "check_callable",
    "check_choice",
    "check_float",
    "check_int",
    "check_path",
    "check_token_ids",
]

Choice = TypeVar("Choice")


def check_bool(name: str, value: Any) -> bool:
    """True or False, Python's or NumPy's."""
    if not isinstance(value, (bool, np.bool_)):
        raise InvalidParameterError(f"must be True or False, not {value!r}", name)
    return bool(value)


def check_callable(name: str, value: Any) -> None:
    """A callable, or None."""
    if value is not None and not callable(value):
        raise InvalidParameterError(f"must be callable or None, not {value!r}", name)


def check_int(name: str, value: Any, low: int, high: int) -> int:
    """An integer (Python's or NumPy's, not a bool) in low..high."""
    if isinstance(value, (bool, np.bool_)):
        raise InvalidParameterError(f"must be an integer, not {value!r}", name)
    try:
        number = operator.index(value)
    except TypeError:
        raise InvalidParameterError(f"must be an integer, not {value!r}", name) from None
    if not low <= number <= high:
        raise InvalidParameterError(f"must be in {low}..{high}, not {number}", name)
    return number


def check_float(
    name: str, value: Any, low: float, high: float, *, above_low: bool = False
) -> float:
    """A finite number (Python's or NumPy's, not a bool) in low..high; above_low excludes low
    itself."""
    expected = f"in {'(' if above_low else '['}{low:g}, {high:g}]"
    try:
        if isinstance(value, (bool, np.bool_, str, bytes, bytearray, memoryview)):
            raise TypeError
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        problem = f"must be a number {expected}, not {value!r}"
        raise InvalidParameterError(problem, name) from None
    if not math.isfinite(number) or not low <= number <= high or (above_low and number == low):
        raise InvalidParameterError(f"must be {expected}, not {value!r}", name)
    return number


def check_choice(name: str, value: Any, choices: Collection[Choice]) -> Choice:
    """One of `choices`."""
    for choice in choices:
        if isinstance(value, type(choice)) and value == choice:
            return choice
    listed = ", ".join(repr(choice) for choice in choices)
    raise InvalidParameterError(f"must be one of {listed}, not {value!r}", name)


def check_path(name: str, value: Any) -> Path:
    """A str, or another path that is text."""
    path = value if isinstance(value, (str, os.PathLike)) else None
    if path is None or not isinstance(os.fspath(path), str):
        raise InvalidParameterError(f"must be a path, not {value!r}", name)
    return Path(path)


def check_token_ids(
    name: str,
    ids: Sequence[int] | NDArray[np.integer[Any]],
    vocab_size: int,
    *,
    or_text: bool = False,
    most: int | None = None,
    before: int = 0,
) -> list[int]:
    """Token ids as a list of ints in 0..vocab_size-1. With or_text, errors say that a str is
    accepted too.

    Raises
    ------
    InvalidParameterError
        One of them is not such an integer, or `ids` is something else.
    ContextOverflowError
        There are more than `most`, with `before` others that stand before them. No more are looked
        at.
    """
    if isinstance(ids, np.ndarray) and ids.ndim != 1:
        raise InvalidParameterError(f"must be one-dimensional, not of shape {ids.shape}", name)
    kinds = "str or token ids" if or_text else "token ids"
    # bytes would pass for small integers, and sets and mappings have no order that means something
    if isinstance(ids, (str, bytes, bytearray, memoryview, Mapping, Set)):
        raise InvalidParameterError(f"must be {kinds}, not {type(ids).__name__}", name)
    try:
        if most is not None and hasattr(ids, "__len__") and before + len(ids) > most:
            raise _too_many(name, before + len(ids), most, before)
        # not a list: a range may be longer than memory, and ends at the first id out of range
        values = ids.tolist() if isinstance(ids, np.ndarray) else ids
        iter(values)
    except TypeError:
        raise InvalidParameterError(f"must be {kinds}, not {ids!r}", name) from None
    # nearly always; to name each value would take longer than to check it
    plain = isinstance(values, list) and set(map(type, values)) == {int}
    if plain and min(values) >= 0 and max(values) < vocab_size:
        return list(values)
    checked: list[int] = []
    for index, value in enumerate(values):
        if most is not None and before + index >= most:  # only now known if ids have no length
            raise _too_many(name, before + index + 1, most, before)
        if or_text and isinstance(value, str):
            problem = f"must be one text or token ids, but {name}[{index}] is a text: {value!r}"
            if isinstance(ids, Iterator):
                problem += "; for several prompts, make a list of it"
            raise InvalidParameterError(problem, name)
        checked.append(check_int(f"{name}[{index}]", value, 0, vocab_size - 1))
    return checked


def _too_many(name: str, needed: int, most: int, before: int) -> ContextOverflowError:
    if name.startswith("prompt"):
        return ContextOverflowError(needed, most)
    cached = f"the cache has {before} already; truncate it, pass fewer {name}"
    reason = cached if before else f"there are too many {name}; pass fewer"
    return ContextOverflowError(needed, most, f"{reason}, or {LONGER_CONTEXT}")
