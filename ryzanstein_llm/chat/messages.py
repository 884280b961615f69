"""Checks of messages and tools. Both have the form of OpenAI's API."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from ..errors import InvalidParameterError
from ..validation import check_choice

__all__ = ["ROLES", "check_messages", "check_tools", "check_variables", "tool_names"]

ROLES = ("system", "developer", "user", "assistant", "tool", "function")


def check_messages(
    messages: Any, roles: Sequence[str] = ROLES, *, name: str = "messages"
) -> list[dict[str, Any]]:
    """A copy of the messages in one form: contents are str, and the arguments of tool calls dict.

    Parameters
    ----------
    messages : sequence of dict
        Each has a `role` and a `content`: a str, or a list of `{"type": "text", "text": str}`,
        which are joined by line breaks. The content may be None beside `tool_calls`. Objects with a
        `model_dump` method count as what that returns.
    roles : sequence of str
        Those that the template knows.

    Raises
    ------
    InvalidParameterError
        Names the index, the key and the value.
    """
    if isinstance(messages, (str, bytes, Mapping)) or not isinstance(messages, Sequence):
        _refuse(name, "a list of messages, each with a role and a content", messages)
    if not messages:
        raise InvalidParameterError("must hold at least one message", name)
    return [_message(each, f"{name}[{index}]", roles) for index, each in enumerate(messages)]


def check_tools(tools: Any) -> list[dict[str, Any]] | None:
    """A copy of the tools, each as `{"type": "function", "function": {"name": …, …}}`. None if
    there are none.

    Raises
    ------
    InvalidParameterError
    """
    if tools is None:
        return None
    if isinstance(tools, (str, bytes, Mapping)) or not isinstance(tools, Sequence):
        _refuse("tools", "a list of tools", tools)
    return [_tool(each, f"tools[{index}]") for index, each in enumerate(tools)] or None


def tool_names(tools: Sequence[Mapping[str, Any]] | None) -> frozenset[str] | None:
    """The names of checked tools; None if there are none."""
    return None if tools is None else frozenset(tool["function"]["name"] for tool in tools)


def check_variables(values: Any) -> dict[str, Any]:
    """A copy of the variables for a template.

    Raises
    ------
    InvalidParameterError
        A name is not a str, or belongs to an argument, or a value is none that JSON has.
    """
    if values is None:
        return {}
    name = "chat_template_kwargs"
    found = _copy(_mapping(values, name), name)
    for key in ("messages", "tools", "self"):
        if key in found:
            raise InvalidParameterError(f"cannot have {key!r}, which has a value already", name)
    copied: dict[str, Any] = found
    return copied


def _message(value: Any, name: str, roles: Sequence[str]) -> dict[str, Any]:
    message = _copy(_mapping(value, name), name)
    if "role" not in message:
        raise InvalidParameterError("has no 'role'", name)
    message["role"] = check_choice(f"{name}['role']", message["role"], roles)
    if message.get("tool_calls") is not None:
        message["tool_calls"] = _tool_calls(message["tool_calls"], f"{name}['tool_calls']")
    content = message.get("content")
    if content is None and not (message["role"] == "assistant" and message.get("tool_calls")):
        kinds = "a str or a list of text parts"
        if "content" not in message:
            raise InvalidParameterError(f"has no 'content', which must be {kinds}", name)
        _refuse(f"{name}['content']", kinds, content)
    message["content"] = "" if content is None else _text(content, f"{name}['content']")
    for key in ("reasoning_content", "name", "tool_call_id"):
        if not isinstance(message.get(key), (str, type(None))):
            _refuse(f"{name}[{key!r}]", "a str", message[key])
    return {key: each for key, each in message.items() if each is not None}


def _text(content: Any, name: str) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        _refuse(name, "a str or a list of text parts", content)
    texts = []
    for index, part in enumerate(content):
        found = _mapping(part, f"{name}[{index}]")
        check_choice(f"{name}[{index}]['type']", found.get("type"), ("text",))
        if not isinstance(found.get("text"), str):
            _refuse(f"{name}[{index}]['text']", "a str", found.get("text"))
        texts.append(found["text"])
    return "\n".join(texts)


def _tool_calls(calls: Any, name: str) -> list[dict[str, Any]]:
    if not isinstance(calls, list):
        _refuse(name, "a list of tool calls", calls)
    return [_tool_call(each, f"{name}[{index}]") for index, each in enumerate(calls)]


def _tool_call(value: Any, name: str) -> dict[str, Any]:
    call = dict(_mapping(value, name))
    if call.get("type") is not None:
        check_choice(f"{name}['type']", call["type"], ("function",))
    function = dict(_mapping(call.get("function"), f"{name}['function']"))
    if not isinstance(function.get("name"), str) or not function["name"]:
        _refuse(f"{name}['function']['name']", "a str", function.get("name"))
    where = f"{name}['function']['arguments']"
    function["arguments"] = _arguments(function.get("arguments"), where)
    return {**call, "type": "function", "function": function}


def _arguments(value: Any, name: str) -> dict[str, Any]:
    if value is None or value == "":
        return {}
    found = value
    if isinstance(value, str):
        try:
            found = _copy(json.loads(value), name)
        except InvalidParameterError:
            raise
        except (ValueError, RecursionError):
            found = None
    if not isinstance(found, dict):
        _refuse(name, "a JSON object, or a str that is one", value)
    return found


def _tool(value: Any, name: str) -> dict[str, Any]:
    tool = _copy(_mapping(value, name), name)
    if "function" not in tool and "name" in tool:
        tool = {"type": "function", "function": tool}
    check_choice(f"{name}['type']", tool.setdefault("type", "function"), ("function",))
    function = _mapping(tool.get("function"), f"{name}['function']")
    if not isinstance(function.get("name"), str) or not function["name"]:
        _refuse(f"{name}['function']['name']", "a str", function.get("name"))
    for key, kind, what in (("description", str, "a str"), ("parameters", dict, "a JSON schema")):
        if not isinstance(function.get(key), (kind, type(None))):
            _refuse(f"{name}['function'][{key!r}]", what, function[key])
    copied: dict[str, Any] = tool
    return copied


def _mapping(value: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) and callable(getattr(value, "model_dump", None)):
        value = value.model_dump()
    if not isinstance(value, Mapping):
        _refuse(name, "a dict", value)
    return value


def _copy(value: Any, name: str, depth: int = 0) -> Any:
    """A copy of a JSON value."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            bad = value[error.start]
            raise InvalidParameterError(
                f"is not valid Unicode: lone surrogate {bad!a} at index {error.start}", name
            ) from None
        return str(value)
    if depth > 100:
        raise InvalidParameterError("is nested too deeply", name)
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                _refuse(f"a key of {name}", "a str", key)
            _copy(key, f"a key of {name}")
        return {key: _copy(each, f"{name}[{key!r}]", depth + 1) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_copy(each, f"{name}[{index}]", depth + 1) for index, each in enumerate(value)]
    if callable(getattr(value, "model_dump", None)):
        return _copy(value.model_dump(), name, depth + 1)
    _refuse(name, "a value that JSON has", value)


def _refuse(name: str, expected: str, value: Any) -> NoReturn:
    shown = repr(value)
    shown = shown if len(shown) <= 200 else f"{shown[:200]}…"
    raise InvalidParameterError(f"must be {expected}, not {shown}", name)
