"""From the text that a model writes to an answer: reasoning, text and tool calls."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from ..text.reasoning import ReasoningParser
from ..text.tool_calls import ToolCallParser, ToolCallText
from .result import ChatDelta

__all__ = ["AnswerParser"]

_SURROGATE = re.compile("[\ud800-\udfff]")

ID_LENGTH = 9
"""Characters of a tool call's id; some templates ask for exactly so many."""


class AnswerParser:
    """Divides a text while it grows. Make a new one for each text.

    Parameters
    ----------
    reasoning : ReasoningParser
    calls : ToolCallParser or None
        None: there are no tools, so everything is text.
    key : str
        What the ids of tool calls are made from, besides the calls: the prompt.
    """

    def __init__(
        self, reasoning: ReasoningParser, calls: ToolCallParser | None, key: str = ""
    ) -> None:
        self._reasoning, self._calls, self._key = reasoning, calls, key
        self._count = 0

    def push(self, piece: str) -> ChatDelta:
        """What is certain after `piece`; may be empty."""
        reasoning, text = self._reasoning.push(piece)
        return self._delta(reasoning, text, last=False)

    def flush(self) -> ChatDelta:
        """What was held back. Call it after the last piece."""
        reasoning, text = self._reasoning.flush()
        return self._delta(reasoning, text, last=True)

    def _delta(self, reasoning: str, text: str, *, last: bool) -> ChatDelta:
        if self._calls is None:
            return ChatDelta(text, reasoning)
        found = self._calls.push(text) + (self._calls.flush() if last else [])
        return ChatDelta(
            "".join(each for each in found if isinstance(each, str)),
            reasoning,
            [self._call(each) for each in found if not isinstance(each, str)],
        )

    def _call(self, call: ToolCallText) -> dict[str, Any]:
        name = _valid(call.name)
        arguments = _valid(json.dumps(call.arguments, ensure_ascii=False))
        self._count += 1
        key = json.dumps([self._key, self._count, name, arguments])
        digest = int.from_bytes(hashlib.blake2b(key.encode("ascii"), digest_size=16).digest())
        return {
            "id": _letters(digest),
            "type": "function",
            "function": {"name": name, "arguments": arguments},
        }


def _valid(text: str) -> str:
    r"""JSON may have a lone surrogate (`"\ud800"`), which UTF-8 cannot encode. It becomes U+FFFD,
    like bytes of a text that are not UTF-8."""
    return _SURROGATE.sub("\ufffd", text)


def _letters(number: int) -> str:
    alphabet = "0123456789abcdefghijklmnopqrstuvwxyz"
    text = ""
    for _ in range(ID_LENGTH):
        number, digit = divmod(number, len(alphabet))
        text += alphabet[digit]
    return text
