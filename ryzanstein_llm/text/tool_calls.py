"""Calls of tools, taken out of a model's text.

Three forms are known, and a template's source says which one its model writes:

- `<tool_call>{"name": …, "arguments": {…}}</tool_call>`, any number of them (Qwen, Hermes)
- `{"name": …, "parameters": {…}}` as the whole text, also after `<|python_tag|>`, several of them
  with `;` between (Llama 3). Without the tag, it is a call only if there are such tools: an answer
  may be JSON that has a name
- `[TOOL_CALLS][{"name": …, "arguments": {…}}, …]`, or `[TOOL_CALLS]name[ARGS]{…}` (Mistral)

What is not such a call is text.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Protocol

from .held_back import undecided

__all__ = ["CallsInstead", "ToolCallParser", "ToolCallText", "tool_call_parser", "tool_call_tag"]


@dataclass(frozen=True)
class ToolCallText:
    """A call as the model wrote it.

    Attributes
    ----------
    name : str
    arguments : dict
    """

    name: str
    arguments: dict[str, Any]


MOST_NESTED = 90
"""Levels of arguments. The next question may have a hundred, with those around them, and Python's
own JSON ends at a thousand, less those of its callers."""

Found = list[str | ToolCallText]


class ToolCallParser(Protocol):
    """Divides a text into text and calls while it grows. Make a new one for each text. The result
    depends only on the text, not on how it was cut into pieces, except that text may come in other
    pieces."""

    def push(self, piece: str) -> Found:
        """What is certain after `piece`, in order."""
        ...

    def flush(self) -> Found:
        """What was held back. Call it after the last piece."""
        ...


def tool_call_parser(template: str, names: Collection[str] | None = None) -> ToolCallParser:
    """The parser for what the model of this template writes.

    Parameters
    ----------
    template : str
    names : collection of str, optional
        Of the tools that there are. A call without a tag has to be of one of them, and is text
        otherwise. None: they are not known, and a call may have any name.
    """
    if "<tool_call>" in template:
        return _Tagged()
    if "[TOOL_CALLS]" in template:
        return _Whole("[TOOL_CALLS]", needs_tag=True)
    if "<|python_tag|>" in template or '"parameters"' in template:
        return _Whole("<|python_tag|>", needs_tag=False, names=names)
    return _Tagged()


def tool_call_tag(template: str) -> str | None:
    """The tag with which the model of this template begins its calls; None if a call may also begin
    without one."""
    parser = tool_call_parser(template)
    if isinstance(parser, _Whole):
        return parser.tag if parser.needs_tag else None
    return _Tagged.BEGIN


class CallsInstead:
    """A `ToolCallParser` for a text that either begins with the tag of a call or has no calls.

    Parameters
    ----------
    parser : ToolCallParser
        For a text that begins with the tag.
    tag : str
    """

    def __init__(self, parser: ToolCallParser, tag: str) -> None:
        self._parser, self._tag = parser, tag
        self._held = ""
        self._calls: bool | None = None  # None: the text is still too short to tell

    def push(self, piece: str) -> Found:
        """See `ToolCallParser`."""
        if self._calls is None:
            self._held += piece
            if self._tag.startswith(self._held) and self._held != self._tag:
                return []
            self._calls = self._held.startswith(self._tag)
            piece, self._held = self._held, ""
        if self._calls:
            return self._parser.push(piece)
        return [piece] if piece else []

    def flush(self) -> Found:
        """See `ToolCallParser`."""
        if self._calls:
            return self._parser.flush()
        return [self._held] if self._held else []


class _Tagged:
    """Calls between tags, with text before and between them. Blanks beside a call belong to it."""

    BEGIN, END = "<tool_call>", "</tool_call>"
    SIGNS = re.compile(r'\\(?!</tool_call>).|"|</tool_call>', re.S)

    def __init__(self) -> None:
        self._held = ""
        self._read, self._quoted = 0, False  # how far the end was looked for; within a string there
        self._blanks = ""  # at the end of the text so far: a call may follow
        self._after_call = False

    def push(self, piece: str) -> Found:
        self._held += piece
        found: Found = []
        while True:
            at = self._held.find(self.BEGIN)
            size = at if at >= 0 else len(self._held) - undecided(self._held, [self.BEGIN])
            found += self._text(self._held[:size])
            self._held = self._held[size:]
            end = self._end() if at >= 0 else None
            if end is None:
                return found
            inside = self._held[len(self.BEGIN) : end]
            found += self._call(inside, self.END)
            self._held = self._held[end + len(self.END) :]

    def flush(self) -> Found:
        held, self._held = self._held, ""
        found: Found = []
        if held.startswith(self.BEGIN):  # the last tag is missing; perhaps the call is complete
            found += self._call(held.removeprefix(self.BEGIN), "")
        else:
            found += self._text(held)
        return [*found, self._blanks] if self._blanks and not self._after_call else found

    def _text(self, text: str) -> Found:
        text = self._blanks + text
        if self._after_call:
            text = text.lstrip()
        certain = text.rstrip()
        self._blanks = text[len(certain) :]
        self._after_call = self._after_call and not certain
        return [certain] if certain else []

    def _call(self, inside: str, end: str) -> Found:
        call = _call(inside)
        if call is None:
            return self._text(self.BEGIN + inside + end)
        self._blanks, self._after_call = "", True
        return [call]

    def _end(self) -> int | None:
        """The place of the end tag. One within a string of JSON is part of that string."""
        certain = len(self._held) - undecided(self._held, [self.END, "\\" + self.END])
        for sign in self.SIGNS.finditer(self._held, self._read, certain):
            if sign[0] == '"':
                self._quoted = not self._quoted
            elif sign[0] == self.END and not self._quoted:
                self._read, self._quoted = 0, False
                return sign.start()
            self._read = sign.end()
        # the next character decides about a backslash
        self._read = max(self._read, certain - self._held.endswith("\\", 0, certain))
        return None


class _Whole:
    """The whole text is calls, or none of it. With a tag, text may stand before it."""

    def __init__(self, tag: str, *, needs_tag: bool, names: Collection[str] | None = None) -> None:
        self.tag, self.needs_tag, self._names = tag, needs_tag, names
        self._held = ""
        self._is_text = False
        self._later: list[str] | None = None  # what follows, once only the end can decide

    def push(self, piece: str) -> Found:
        if self._later is not None:
            self._later.append(piece)
            return []
        self._held += piece
        begin = self._held.lstrip()
        braced = not self.needs_tag and not self._is_text and begin.startswith("{")
        if braced or self.tag in self._held:
            self._later = []
            return []
        if not self.needs_tag and not self._is_text and not begin:
            return []
        self._is_text = self._is_text or not self.tag.startswith(begin)
        certain = self._held[: len(self._held) - undecided(self._held, [self.tag])].rstrip()
        self._held = self._held[len(certain) :]
        return [certain] if certain else []

    def flush(self) -> Found:
        held, self._held = self._held + "".join(self._later or ()), ""
        before, tag, rest = held.partition(self.tag)
        if not tag:
            before, rest = ("", held) if not self.needs_tag and not self._is_text else (held, "")
        calls = _calls(rest, self.tag) if rest.strip() else None
        if calls is None or not (tag or self._are_tools(calls)):
            return [held] if held else []
        before = before.rstrip()
        return [before, *calls] if before else [*calls]

    def _are_tools(self, calls: list[ToolCallText]) -> bool:
        return self._names is None or all(call.name in self._names for call in calls)


def _calls(text: str, tag: str) -> list[ToolCallText] | None:
    """All calls of a text; None if there is anything else in it."""
    found: list[ToolCallText] = []
    rest = text.strip()
    while rest:
        named = re.match(r"([\w.-]+)(?:\[CALL_ID\]\w+)?(?:\[ARGS\])?\s*(?={)", rest)
        value, size = _decoded(rest[named.end() :] if named else rest)
        if named:
            value, size = {"name": named[1], "arguments": value}, size + named.end()
        for each in value if isinstance(value, list) and value else [value]:
            call = _as_call(each)
            if call is None:
                return None
            found.append(call)
        rest = rest[size:].lstrip("; \n\t\r").removeprefix(tag).lstrip()
    return found or None


def _call(text: str) -> ToolCallText | None:
    value, size = _decoded(text.strip())
    return _as_call(value) if size == len(text.strip()) else None


def _decoded(text: str) -> tuple[Any, int]:
    """The JSON value that a text begins with, and its size; (None, 0) if it begins with none."""
    try:
        value, size = _DECODER.raw_decode(text)
    except (ValueError, RecursionError):
        return None, 0
    return value, size


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):  # could not be written as JSON again
        raise ValueError(f"{text} is too large")
    return value


_DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=_refuse_constant)


def _is_shallow(value: Any) -> bool:
    """Whether it has no more levels than others can write and read."""
    level = [value]
    for _ in range(MOST_NESTED):
        level = [
            inner
            for each in level
            if isinstance(each, dict | list)
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
        if not level:
            return True
    return False


def _as_call(value: Any) -> ToolCallText | None:
    if not isinstance(value, dict) or not isinstance(value.get("name"), str) or not value["name"]:
        return None
    arguments = value.get("arguments", value.get("parameters", {}))
    if isinstance(arguments, str):  # some models write a text that is JSON
        arguments, size = _decoded(arguments.strip())
        if not size:
            return None
    if not isinstance(arguments, dict) or not _is_shallow(arguments):
        return None
    return ToolCallText(value["name"], arguments)
