"""Talking with a model: through its chat template or, without one, by continuing a text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import FormatError, InvalidParameterError

if TYPE_CHECKING:
    from .. import BitNetModel, ChatStream, TextIterator
    from ..results import GenerationResult

__all__ = ["Answer", "ChatTalk", "TaleTalk", "Talk"]


class Answer(Protocol):
    """An answer while it is computed: pieces of (reasoning, text)."""

    def __iter__(self) -> Iterator[tuple[str, str]]: ...

    def cancel(self) -> None:
        """End it soon; also from a signal handler."""
        ...

    # after its end

    @property
    def generation(self) -> GenerationResult: ...

    @property
    def used(self) -> int | None:
        """Tokens of the context that the conversation takes now; None if nobody has counted."""
        ...

    @property
    def forgotten(self) -> str:
        """What of the conversation is not in the context any more, such as "12 tokens"."""
        ...


class Talk(Protocol):
    """A conversation. `options` are those of `generate`.

    Attributes
    ----------
    overflow : str
        What to do when the context is full, unless the user says something else.
    """

    overflow: str

    def ask(self, text: str, options: Mapping[str, Any]) -> Answer: ...

    def retry(self, options: Mapping[str, Any]) -> Answer: ...

    def clear(self) -> None: ...

    def set_system(self, text: str) -> None: ...

    def save(self, path: str) -> None: ...

    def load(self, path: str, options: Mapping[str, Any]) -> None: ...


class ChatTalk:
    """Through the chat template."""

    overflow = "truncate"  # a shift would drop the system message, and break a turn in two

    def __init__(self, model: BitNetModel, system: str | None, template: str | None) -> None:
        self._model, self._system, self._template = model, system, template
        self._unanswered: list[dict[str, Any]] = []  # of the session before this one
        self._last: _ChatAnswer | None = None
        self._start()

    def ask(self, text: str, options: Mapping[str, Any]) -> Answer:
        self._unanswered = []
        return self._answer(self._session.stream(text, **options))

    def retry(self, options: Mapping[str, Any]) -> Answer:
        if self._unanswered:
            said, self._unanswered = self._unanswered, []
            return self._answer(self._session.stream(said, **options))
        return self._answer(self._session.stream_retry(**options))

    def clear(self) -> None:
        self._start()

    def set_system(self, text: str) -> None:
        """Replace the system message, and keep what was said."""
        said = [each for each in self._session.messages if each["role"] != "system"]
        unanswered = self._unanswered or self._session.unanswered
        self._system = text or None
        self._start(said)
        self._unanswered = unanswered

    def save(self, path: str) -> None:
        self._session.save(path)

    def load(self, path: str, options: Mapping[str, Any]) -> None:
        self._session.load(path)
        self._unanswered, self._last = [], None

    def _start(self, messages: list[dict[str, Any]] | None = None) -> None:
        self._session = self._model.chat_session(
            self._system, messages=messages, chat_template=self._template
        )
        self._unanswered, self._last = [], None

    def _answer(self, stream: ChatStream) -> Answer:
        answer = self._last = _ChatAnswer(stream, self._last)
        return answer


class TaleTalk:
    """The model goes on from what the user writes."""

    overflow = "shift"  # a text has no turns; most answers compute nothing again

    def __init__(self, model: BitNetModel) -> None:
        self._model = model
        self._session = model.session()
        self._parts: list[str] = []  # of the whole text, in turns
        self._forgotten = 0  # tokens
        # tokens, parts and forgotten before the last answer, and what it answered
        self._last: tuple[list[int], list[str], int, str] | None = None

    def ask(self, text: str, options: Mapping[str, Any]) -> Answer:
        from ..sampling import SamplingParams

        given = dict(options)
        own = {name: given.pop(name, None) for name in ("max_tokens", "overflow")}
        sampling = SamplingParams.from_checkpoint(self._model, **given)
        before, parts = self._session.tokens, list(self._parts)
        gap = " " if parts and not text[:1].isspace() else ""
        self._last = (before, parts, self._forgotten, text)  # to ask again, also if this fails
        stream = self._session.stream(gap + text, sampling=sampling, **own)
        return _TaleAnswer(stream, lambda: self._keep([*parts, gap + text], stream.result))

    def retry(self, options: Mapping[str, Any]) -> Answer:
        if self._last is None:
            raise InvalidParameterError("there is no answer yet that could be replaced")
        before, self._parts, self._forgotten, text = self._last
        if self._session.tokens[: len(before)] == before:
            self._session.truncate(len(before))
        else:  # the answer has dropped some of them
            self._session = self._model.session()
            self._session.generate(before, max_tokens=0)
        return self.ask(text, options)

    def clear(self) -> None:
        self._session = self._model.session()
        self._parts, self._last, self._forgotten = [], None, 0

    def set_system(self, text: str) -> None:
        raise InvalidParameterError("this model has no chat template, so it has no system message")

    def save(self, path: str) -> None:
        import json
        from pathlib import Path

        from ..formats.new_file import replace_text

        replace_text(Path(path), json.dumps({"text": "".join(self._parts)}) + "\n")

    def load(self, path: str, options: Mapping[str, Any]) -> None:
        from pathlib import Path

        from ..formats.json_file import read_json_object
        from ..saved_session import no_session_if_not_found

        with no_session_if_not_found():
            read = read_json_object(Path(path))
        text = read.get("text")
        if "messages" in read and text is None:
            raise FormatError(f"{path}: is a conversation, for models with a chat template")
        if not isinstance(text, str):
            raise FormatError(f"{path}: has no 'text'")
        session, dropped = self._model.session(), 0
        if text:
            overflow = options["overflow"]
            read_in = session.generate(text, max_tokens=0, overflow=overflow, return_result=True)
            dropped = read_in.dropped_tokens
        self.clear()
        self._session, self._parts, self._forgotten = session, [text] if text else [], dropped

    def _keep(self, parts: list[str], result: GenerationResult) -> tuple[int, int]:
        """Take over what was said and answered. Returns (tokens in the context, forgotten ones)."""
        if result.prompt_tokens:  # it had begun
            self._parts = [*parts, result.text or ""]
            self._forgotten += result.dropped_tokens
        return len(self._session.tokens), self._forgotten


class _ChatAnswer:
    def __init__(self, stream: ChatStream, before: _ChatAnswer | None) -> None:
        self._stream, self.cancel = stream, stream.cancel
        self.used: int | None = before.used if before else None
        self.forgotten: str = before.forgotten if before else ""

    def __iter__(self) -> Iterator[tuple[str, str]]:
        for delta in self._stream:
            yield delta.reasoning, delta.text
        run = self.generation
        if run.ids or run.finish_reason != "cancelled":  # otherwise nothing of it is kept
            from ..text_table import plural

            self.used = run.prompt_tokens + len(run.ids) - run.dropped_tokens
            messages, tokens = self._stream.result.dropped_messages, run.dropped_tokens
            parts = [plural(messages, "message")] if messages else []
            parts += [plural(tokens, "token")] if tokens else []
            self.forgotten = " and ".join(parts)

    @property
    def generation(self) -> GenerationResult:
        return self._stream.result.generation


class _TaleAnswer:
    used: int | None = None
    forgotten = ""

    def __init__(self, stream: TextIterator, keep: Callable[[], tuple[int, int]]) -> None:
        self._stream, self._keep, self.cancel = stream, keep, stream.cancel

    def __iter__(self) -> Iterator[tuple[str, str]]:
        for piece in self._stream:
            yield "", piece
        from ..text_table import plural

        self.used, dropped = self._keep()
        self.forgotten = plural(dropped, "token") if dropped else ""

    @property
    def generation(self) -> GenerationResult:
        return self._stream.result
