"""A conversation that remembers what was said."""

from __future__ import annotations

import json
import os
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Unpack

from ..errors import FormatError, InvalidParameterError, SessionBusyError
from ..formats.json_file import read_json_object
from ..formats.new_file import replace_text
from ..notebook import as_html
from ..options import GenerationArguments
from ..saved_session import no_session_if_not_found
from ..text.chat_prompt import ChatPrompt
from ..text_table import plural
from ..validation import check_path
from .format import ChatFormat
from .messages import check_messages
from .overflow import Make, Messages
from .request import ChatRequest
from .result import ChatResult
from .stream import ChatStream

__all__ = ["ChatSession"]

Ask = Callable[[Make, Messages, int, Mapping[str, Any]], ChatRequest]


class ChatSession:
    """A conversation. Made by `BitNetModel.chat_session()`.

    The next answer uses the keys and values of all that stands before it, and the tokens that the
    model wrote itself, so that only what is new is computed. If the template changes earlier
    messages, as those of thinking models do, it is computed from there.

    Use a session from one thread at a time; only `cancel` may be called from any thread.
    """

    def __init__(
        self,
        format: ChatFormat,
        ask: Ask,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None,
        variables: Mapping[str, Any],
        options: Mapping[str, Any],
    ) -> None:
        self._format, self._ask = format, ask
        self._tools, self._variables, self._options = tools, variables, dict(options)
        self._messages: list[dict[str, Any]] = [dict(message) for message in messages]
        self._asked = self._messages  # what the last request was to answer
        self._known: tuple[str, list[int]] | None = None  # text with stand-ins, and its ids
        self._left_out = 0  # messages that the last prompt did not have
        self._lock = threading.Lock()
        self._last: weakref.ref[ChatStream] | None = None

    @property
    def messages(self) -> list[dict[str, Any]]:
        """A copy of the conversation, in the form that `chat` takes."""
        return _copied(self._messages)

    @property
    def unanswered(self) -> list[dict[str, Any]]:
        """A copy of what was said last, if there is no answer to it, because it was stopped before
        its first token or failed. `messages` does not have it, `retry` answers it, and the next
        message takes its place. Empty if everything is answered."""
        return _copied(self._asked[len(self._messages) :])

    def send(
        self,
        message: str | Mapping[str, Any] | Sequence[Mapping[str, Any]],
        **options: Unpack[GenerationArguments],
    ) -> ChatResult:
        """Say something, and get the answer. Both are appended to `messages`.

        Parameters
        ----------
        message : str, dict or list of dict
            What the user says; or a message, or several, such as the results of tools.
        **options
            Those of `generate`; they override those of the session.

        Raises
        ------
        InvalidParameterError, ChatTemplateError, ContextOverflowError, CacheBudgetError,
        ClosedError
            `messages` is then as before, and `retry` asks again.
        SessionBusyError
            If the session is answering already.
        """
        return _exhausted(self.stream(message, **options))

    def stream(
        self,
        message: str | Mapping[str, Any] | Sequence[Mapping[str, Any]],
        **options: Unpack[GenerationArguments],
    ) -> ChatStream:
        """Like `send`, but in pieces. The message and the answer are appended when the stream ends
        or is closed; if nothing was generated until then, neither is, and the message is
        `unanswered`. `send` and `stream` are refused until then."""
        return self._stream(lambda: self._with(message), options)

    def retry(self, **options: Unpack[GenerationArguments]) -> ChatResult:
        """Answer what is `unanswered`, or the last message of a conversation that was given or
        loaded and ends without an answer. Otherwise answer again: the last answer is replaced by
        another one. If sampling has a fixed seed, give another one, or the answer will be the same.

        Raises
        ------
        InvalidParameterError
            If there is nothing to answer. Otherwise as `send`.
        """
        return _exhausted(self.stream_retry(**options))

    def stream_retry(self, **options: Unpack[GenerationArguments]) -> ChatStream:
        """Like `retry`, but in pieces."""
        return self._stream(self._to_answer, options)

    def cancel(self) -> None:
        """End the running answer soon. May be called from any thread. What was generated is
        kept."""
        running = self._running
        if running is not None:
            running.cancel()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the conversation as JSON: `{"messages": [...]}`. Replaces a file only when all is
        written.

        Raises
        ------
        WriteError
            If the file cannot be written.
        """
        text = json.dumps({"messages": self._messages}, ensure_ascii=False, indent=2) + "\n"
        replace_text(check_path("path", path), text)

    def load(self, path: str | os.PathLike[str]) -> None:
        """Replace the conversation by one that `save` wrote.

        Raises
        ------
        SessionNotFoundError
            If the file cannot be read.
        FormatError
            If it is no conversation.
        SessionBusyError
        """
        self._refuse_busy()
        with no_session_if_not_found():
            read = read_json_object(check_path("path", path))
        if "text" in read and "messages" not in read:
            raise FormatError(
                f"{path}: is a text, not a conversation; `ryzanstein-llm chat` saved it with a "
                "model without chat template, and loads it with such a model"
            )
        found = read.get("messages")
        try:
            messages = check_messages(found, self._format.roles) if found != [] else []
        except InvalidParameterError as error:
            raise FormatError(f"{path}: {error}") from None
        self._messages, self._asked, self._known, self._left_out = messages, messages, None, 0

    def __repr__(self) -> str:
        state = "idle" if self._running is None else "answering"
        return f"ChatSession({plural(len(self._messages), 'message')}, {state})"

    def _repr_html_(self) -> str:
        return as_html(repr(self))

    def __reduce__(self) -> Any:
        raise TypeError("a ChatSession cannot be pickled; save its messages")

    def _with(self, message: Any) -> list[dict[str, Any]]:
        """The conversation and what is said now."""
        roles = self._format.roles
        if isinstance(message, str):
            message = {"role": "user", "content": message}
        listed = [message] if isinstance(message, Mapping) else message
        return [*self._messages, *check_messages(listed, roles, name="message")]

    def _to_answer(self) -> list[dict[str, Any]]:
        """The conversation with what is unanswered, or without the last answer."""
        if len(self._asked) != len(self._messages):
            return self._asked
        messages = list(self._messages)  # nothing was asked yet since they were given or loaded
        last = messages[-1]["role"] if messages else None
        if last == "assistant":
            messages.pop()
        if not messages or last in ("system", "developer"):
            raise InvalidParameterError("there is no answer yet that could be replaced")
        return messages

    def _stream(
        self, conversation: Callable[[], list[dict[str, Any]]], options: Mapping[str, Any]
    ) -> ChatStream:
        with self._lock:
            self._refuse_busy()
            messages = conversation()
            checked = check_messages(messages, self._format.roles)
            self._asked = messages
            given = {**self._options, **options}
            request = self._ask(self._prompt, checked, self._left_out, given)
            stream = ChatStream(request, lambda result: self._keep(messages, request, result))
            self._last = weakref.ref(stream)
            return stream

    def _prompt(self, messages: Messages) -> ChatPrompt:
        prompt = self._format.prompt(messages, self._tools, self._variables)
        if self._known is None:
            return prompt
        return self._format.prompts.continued(prompt, *self._known)

    def _keep(
        self, messages: list[dict[str, Any]], request: ChatRequest, result: ChatResult
    ) -> None:
        ids = result.generation.ids
        if ids or result.generation.finish_reason != "cancelled":
            self._messages = [*messages, result.message]
            written = self._format.spelled(ids)
            self._known = request.prompt.marked + written, request.prompt.ids + ids
            self._left_out = result.dropped_messages

    @property
    def _running(self) -> ChatStream | None:
        stream = None if self._last is None else self._last()
        return None if stream is None or stream.over else stream

    def _refuse_busy(self) -> None:
        if self._running is not None:
            raise SessionBusyError(
                "the chat session is answering; close the stream, or cancel() and wait for its end"
            )


def _copied(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    copied: list[dict[str, Any]] = json.loads(json.dumps(messages))
    return copied


def _exhausted(stream: ChatStream) -> ChatResult:
    for _ in stream:
        pass
    return stream.result
