"""`response_format` of OpenAI's API: the form of an answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import InvalidParameterError
from ..structured import OutputFormat

__all__ = ["read_response_format"]


def read_response_format(value: Any) -> OutputFormat | None:
    """The form that a `response_format` asks for; None if any text will do.

    Parameters
    ----------
    value : mapping or None
        `{"type": "text"}`, `{"type": "json_object"}` (any object, or one of llama-server's
        `"schema"`), or `{"type": "json_schema", "json_schema": {"schema": {...}}}`.

    Raises
    ------
    InvalidParameterError
        Names the key and the value.
    MissingExtraError
        llguidance is not installed.
    """
    if value is None:
        return None
    name = "response_format"
    if not isinstance(value, Mapping):
        raise InvalidParameterError(f"must be a dict, not {value!r}", name)
    kind = value.get("type")
    if kind == "text":
        return None
    if kind == "json_object":
        schema = value.get("schema", {"type": "object"})
        place = f"{name}['schema']"
    elif kind == "json_schema":
        described = value.get("json_schema")
        schema = described.get("schema") if isinstance(described, Mapping) else None
        place = f"{name}['json_schema']['schema']"
    else:
        problem = f"must be 'text', 'json_object' or 'json_schema', not {kind!r}"
        raise InvalidParameterError(problem, f"{name}['type']")
    if not isinstance(schema, Mapping):
        raise InvalidParameterError(f"must be a dict, not {schema!r}", place)
    return OutputFormat.from_schema(name, schema)
