"""Completions as dictionaries, whole or in chunks.

`ChatResult.to_dict` makes whole chat completions, so here these have chunks only. Sources: OpenAI's
API reference, "Completions" and "Chat Completions", and the types of llama-cpp-python 0.3.36.
"""

from __future__ import annotations

import codecs
import time
import uuid
from typing import Any, Protocol, TypeVar

from ..chat.result import ChatDelta, ChatResult, finish_reason
from ..results import GenerationResult

__all__ = ["ChatCompletionChunks", "Chunks", "CompletionAnswer"]

Piece = TypeVar("Piece", contravariant=True)
Result = TypeVar("Result", contravariant=True)
Json = dict[str, Any]


class Chunks(Protocol[Piece, Result]):
    """The chunks of one completion. All have the same id, time and model."""

    def first(self) -> list[Json]:
        """Before anything is generated."""
        ...

    def of(self, piece: Piece) -> Json:
        """For a piece of the text."""
        ...

    def last(self, result: Result) -> Json:
        """Has the finish reason, and no text."""
        ...

    def usage(self, result: Result) -> Json:
        """Has the token counts, and no choice."""
        ...


class CompletionAnswer(Chunks[str, GenerationResult]):
    """A completion of a text.

    Parameters
    ----------
    model : str
    prompt : str
    echo : bool
        Whether the text begins with the prompt.
    """

    def __init__(self, model: str, prompt: str, *, echo: bool) -> None:
        self._head: Json = {
            "id": f"cmpl-{uuid.uuid4().hex}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": model,
        }
        self._prompt, self._echo = prompt, echo

    def whole(self, result: GenerationResult) -> Json:
        """All in one object."""
        before = self._prompt if self._echo else ""
        choice = self._choice(before + (result.text or ""), finish_reason(result.finish_reason, []))
        # set by requests that asked for them
        choice["logprobs"] = completion_logprobs(result.logprobs, len(self._prompt))
        return {**self._head, "choices": [choice], "usage": result.usage}

    def first(self) -> list[Json]:
        """The prompt, if it is echoed."""
        return [self.of(self._prompt)] if self._echo else []

    def of(self, piece: str) -> Json:
        """A chunk with a piece of the text."""
        return {**self._head, "choices": [self._choice(piece, None)]}

    def last(self, result: GenerationResult) -> Json:
        """See `Chunks.last`."""
        reason = finish_reason(result.finish_reason, [])
        return {**self._head, "choices": [self._choice("", reason)]}

    def usage(self, result: GenerationResult) -> Json:
        """See `Chunks.usage`."""
        return {**self._head, "choices": [], "usage": result.usage}

    def _choice(self, text: str, reason: str | None) -> Json:
        return {"text": text, "index": 0, "logprobs": None, "finish_reason": reason}


class ChatCompletionChunks(Chunks[ChatDelta, ChatResult]):
    """The chunks of an answer of a chat.

    Parameters
    ----------
    model : str
    """

    def __init__(self, model: str) -> None:
        self._head: Json = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": model,
        }
        self._calls = 0

    def first(self) -> list[Json]:
        """The role."""
        return [self._chunk({"role": "assistant", "content": ""}, None)]

    def of(self, piece: ChatDelta) -> Json:
        """A chunk with what is new."""
        delta: Json = {}
        if piece.text:
            delta["content"] = piece.text
        if piece.reasoning:
            delta["reasoning_content"] = piece.reasoning
        if piece.tool_calls:
            first = self._calls
            self._calls += len(piece.tool_calls)
            delta["tool_calls"] = [
                {"index": index, **call} for index, call in enumerate(piece.tool_calls, first)
            ]
        return self._chunk(delta, None)

    def last(self, result: ChatResult) -> Json:
        """See `Chunks.last`."""
        return self._chunk({}, result.finish_reason)

    def usage(self, result: ChatResult) -> Json:
        """See `Chunks.usage`."""
        return {**self._head, "choices": [], "usage": result.usage}

    def _chunk(self, delta: Json, reason: str | None) -> Json:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return {**self._head, "choices": [choice]}


def completion_logprobs(found: Any, offset: int) -> Json | None:
    """The `logprobs` of a choice of a text completion.

    Parameters
    ----------
    found : sequence or None
        For each token, an object with `text`, `bytes`, `logprob` and `top`, which has the same for
        the likeliest tokens.
    offset : int
        Characters before the first token.

    Returns
    -------
    dict or None
        `tokens`, `token_logprobs`, `text_offset` (the characters before each token that are
        complete) and `top_logprobs` (from texts to numbers; it has the token itself, too, and of
        several tokens with the same text the likeliest).
    """
    if found is None:
        return None
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    offsets, tops = [], []
    for token in found:
        offsets.append(offset)
        offset += len(decoder.decode(token.bytes or b""))
        top: dict[str, float] = {}
        for each in (*token.top, token):
            top.setdefault(each.text, each.logprob)
        tops.append(top)
    return {
        "tokens": [token.text for token in found],
        "text_offset": offsets,
        "token_logprobs": [token.logprob for token in found],
        "top_logprobs": tops,
    }
