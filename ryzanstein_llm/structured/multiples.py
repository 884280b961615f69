"""Which numbers a schema may ask for multiples of."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from ..errors import InvalidParameterError

__all__ = ["MOST_STATES", "refuse_large_multiples"]

MOST_STATES = 100_000
"""llguidance keeps a state for each remainder, and builds them before the first token: 100,000 take
half a second and 60 MB, a million take six seconds and 600 MB."""

COMBINING = ("allOf", "anyOf", "oneOf", "$ref")
"""With these, a number may have to be a multiple of several at once."""


def refuse_large_multiples(name: str, schema: Any) -> None:
    """Refuse a schema whose `multipleOf` would take too long. Zeros at the end cost nothing, nor
    does the place of the point, so 0.01 and 1,000,000 are fine.

    Parameters
    ----------
    name : str
        What the caller calls it.
    schema : what json.dumps accepts

    Raises
    ------
    InvalidParameterError
    """
    values = list(_multiples(schema))
    states = [_digits(value) for value in values]
    combined = math.lcm(*states) if any(key in COMBINING for key in _keys(schema)) else 0
    if max(sum(states), combined) > MOST_STATES:
        worst = values[states.index(max(states))]
        also = "" if len(values) == 1 else f" and {len(values) - 1} others"
        raise InvalidParameterError(
            f'has "multipleOf": {worst!r:.40}{also}, which would take too long: without zeros at '
            "the end, their digits and their least common multiple may be "
            f"{MOST_STATES:,} at most",
            name,
        )


def _digits(value: int | float) -> int:
    """As an integer, without its point and without zeros at its end; at least 1."""
    digits = "".join(map(str, Decimal(str(value)).as_tuple().digits)).rstrip("0")
    # what is longer is too large in any case, and Python refuses to read thousands of digits
    return int(digits[:20] or "1")


def _multiples(part: Any) -> Iterator[int | float]:
    for node in _nodes(part):
        value = node.get("multipleOf")
        if isinstance(value, bool):
            continue
        if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
            yield value


def _keys(part: Any) -> Iterator[Any]:
    for node in _nodes(part):
        yield from node


def _nodes(part: Any) -> Iterator[Mapping[Any, Any]]:
    """All mappings of a JSON value, itself included."""
    waiting = [part]
    while waiting:
        each = waiting.pop()
        if isinstance(each, Mapping):
            yield each
            waiting.extend(each.values())
        elif isinstance(each, (list, tuple)):
            waiting.extend(each)
