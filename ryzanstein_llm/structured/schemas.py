"""JSON schemas of classes, and instances of classes from JSON.

Pydantic is recognised by the attributes of its classes, and imported only for its dataclasses.
Other dataclasses are read here.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import re
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import InvalidParameterError

__all__ = ["read_instance", "schema_of"]

_PLAIN: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    types.NoneType: {"type": "null"},
    Any: {},
    list: {"type": "array"},
    dict: {"type": "object"},
}


Definitions = dict[type, tuple[str, dict[str, Any]]]
"""The name and the schema of each dataclass."""


class MismatchError(ValueError):
    """A value is not of the type; within a union, another member may fit."""


def schema_of(argument: str, value: Any) -> tuple[dict[str, Any], type | None]:
    """A JSON schema, and the class that it describes.

    Parameters
    ----------
    argument : str
        What the caller calls the value.
    value : mapping, class of Pydantic (version 2), or dataclass
        Objects of classes have no other properties than the class has fields. A mapping is taken as
        it is.

    Raises
    ------
    InvalidParameterError
    """
    if isinstance(value, Mapping):
        return dict(value), None
    if isinstance(value, type):
        if _is_pydantic(value):
            try:
                schema = _methods(value).model_json_schema()
            except Exception as error:  # of a package that we do not import
                problem = f"{value.__name__} has no JSON schema: {error}"
                raise InvalidParameterError(f"{argument}: {problem}") from error
            return _closed(schema), value
        if dataclasses.is_dataclass(value):
            definitions: Definitions = {}
            top = _schema(argument, value, value.__name__, definitions)
            return {**top, "$defs": dict(definitions.values())}, value
    raise InvalidParameterError(
        f"must be a JSON schema as a dict, a class of Pydantic or a dataclass, not {value!r}",
        argument,
    )


def read_instance(target: type, text: str) -> Any:
    """An instance of a class from a JSON text. Raises ValueError (of which Pydantic's
    ValidationError is one) or AssertionError where the class wants more than the schema says."""
    if _is_pydantic(target):
        return _methods(target).model_validate_json(text)
    return _read(target, json.loads(text))


def _is_pydantic(value: type) -> bool:
    return _is_pydantic_dataclass(value) or all(
        callable(getattr(value, name, None))
        for name in ("model_json_schema", "model_validate_json")
    )


def _is_pydantic_dataclass(value: type) -> bool:
    return dataclasses.is_dataclass(value) and "__pydantic_validator__" in vars(value)


def _methods(value: type) -> Any:
    """What has the methods of a class of Pydantic: its models do, its dataclasses do not."""
    if not _is_pydantic_dataclass(value):
        return value
    from pydantic import TypeAdapter

    adapter = TypeAdapter(value)
    return types.SimpleNamespace(
        model_json_schema=adapter.json_schema, model_validate_json=adapter.validate_json
    )


def _closed(schema: Any) -> Any:
    """The schema without properties that it does not name."""
    if isinstance(schema, Mapping):
        found = {key: _closed(value) for key, value in schema.items()}
        if isinstance(found.get("properties"), dict) and found.get("type") == "object":
            found.setdefault("additionalProperties", False)
        return found
    return [_closed(each) for each in schema] if isinstance(schema, list) else schema


def _schema(argument: str, kind: Any, place: str, definitions: Definitions) -> dict[str, Any]:
    """The schema of a type. `definitions` gets those of dataclasses."""
    if kind is None or (isinstance(kind, typing.Hashable) and kind in _PLAIN):
        return dict(_PLAIN[types.NoneType if kind is None else kind])
    origin, members = typing.get_origin(kind), typing.get_args(kind)

    def schema(member: Any) -> dict[str, Any]:
        return _schema(argument, member, place, definitions)

    if origin is typing.Annotated:
        _refuse_constraints(argument, place, members[1:])
        return schema(members[0])
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [schema(member) for member in members]}
    if origin is typing.Literal:
        return {"enum": list(members)}
    if origin is list or origin is Sequence:
        return {"type": "array", "items": schema(members[0])}
    if origin is dict and members[0] is str:
        return {"type": "object", "additionalProperties": schema(members[1])}
    if origin is tuple and len(members) == 2 and members[1] is ...:
        return {"type": "array", "items": schema(members[0])}
    if origin is tuple and members:
        count, items = len(members), [schema(member) for member in members]
        return {
            "type": "array", "prefixItems": items, "items": False,
            "minItems": count, "maxItems": count,
        }  # fmt: skip
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return {"enum": [member.value for member in kind]}
    if isinstance(kind, type) and _is_pydantic(kind):
        raise InvalidParameterError(
            f"{argument}: {place} has the type {kind.__name__}, a class of Pydantic; only other "
            "classes of Pydantic can hold it"
        )
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return _object(argument, kind, definitions)
    raise InvalidParameterError(
        f"{argument}: {place} has the type {kind!r}, for which there is no JSON here"
    )


def _refuse_constraints(argument: str, place: str, metadata: Sequence[Any]) -> None:
    """Raise InvalidParameterError for what Pydantic would check and a dataclass does not."""
    for each in metadata:
        if type(each).__module__.partition(".")[0] in ("annotated_types", "pydantic"):
            raise InvalidParameterError(
                f"{argument}: {place} is annotated with {each!r}, which only a class of Pydantic "
                "checks"
            )


def _object(argument: str, kind: type, definitions: Definitions) -> dict[str, Any]:
    if kind in definitions:  # perhaps of a class that is just being read: it holds itself
        return {"$ref": f"#/$defs/{definitions[kind][0]}"}
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", kind.__qualname__)  # it stands in a URI reference
    while name in dict(definitions.values()):  # of a class of the same name in another module
        name += "_"
    known: dict[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}
    definitions[kind] = name, known
    required = []
    for field, hint in _fields(argument, kind):
        place = f"{kind.__name__}.{field.name}"
        known["properties"][field.name] = _schema(argument, hint, place, definitions)
        if field.default is field.default_factory is dataclasses.MISSING:
            required.append(field.name)
    known["required"] = required
    return {"$ref": f"#/$defs/{name}"}


def _fields(argument: str, kind: type) -> list[tuple[dataclasses.Field[Any], Any]]:
    """The fields that the class is made from, with their types."""
    try:
        hints = typing.get_type_hints(kind, include_extras=True)
    except Exception as error:  # names in annotations are evaluated
        problem = f"the types of {kind.__name__} cannot be found: {error}"
        raise InvalidParameterError(f"{argument}: {problem}") from error
    return [(each, hints[each.name]) for each in dataclasses.fields(kind) if each.init]


def _read(kind: Any, value: Any) -> Any:
    """A value of JSON as a value of a type that `_schema` knows."""
    origin, members = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return _read(members[0], value)
    if origin in (typing.Union, types.UnionType):
        return _read_union(members, value)
    if origin is typing.Literal:
        return _one_of(members, value)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return kind(_one_of([member.value for member in kind], value))
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return _read_object(kind, value)
    if origin in (list, Sequence):
        return [_read(members[0], each) for each in _checked(value, list)]
    if origin is dict:
        return {key: _read(members[1], each) for key, each in _checked(value, dict).items()}
    if origin is tuple:
        values = _checked(value, list)
        if members[-1] is ...:
            return tuple(_read(members[0], each) for each in values)
        if len(values) != len(members):
            raise MismatchError
        return tuple(map(_read, members, values))
    if kind is float and type(value) is int:
        return float(value)
    return value if kind is Any else _checked(value, types.NoneType if kind is None else kind)


def _read_union(members: Sequence[Any], value: Any) -> Any:
    for member in members:
        try:
            return _read(member, value)
        except MismatchError:
            continue
    raise MismatchError


def _read_object(kind: type, value: Any) -> Any:
    values = _checked(value, dict)
    known = {field.name: hint for field, hint in _fields("schema", kind)}
    if not values.keys() <= known.keys():
        raise MismatchError
    needed = {
        field.name
        for field in dataclasses.fields(kind)
        if field.init and field.default is field.default_factory is dataclasses.MISSING
    }
    if not needed <= values.keys():
        raise MismatchError
    return kind(**{name: _read(known[name], each) for name, each in values.items()})


def _one_of(choices: Sequence[Any], value: Any) -> Any:
    for choice in choices:
        if type(choice) is type(value) and choice == value:
            return choice
    raise MismatchError


def _checked(value: Any, kind: type) -> Any:
    if type(value) is not kind:  # a bool is an int for `isinstance`
        raise MismatchError
    return value
