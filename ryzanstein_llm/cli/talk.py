"""Talking with a model: through its chat template or, without one, by continuing a text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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

    @property
    def generation(self) -> GenerationResult:
        """After its end."""
        ...


class Talk(Protocol):
    """A conversation. `options` are those of `generate`."""

    def ask(self, text: str, options: Mapping[str, Any]) -> Answer: ...

    def retry(self, options: Mapping[str, Any]) -> Answer: ...

    def clear(self) -> None: ...

    def set_system(self, text: str) -> None: ...

    def save(self, path: str) -> None: ...

    def load(self, path: str) -> None: ...


class ChatTalk:
    """Through the chat template."""

    def __init__(self, model: BitNetModel, system: str | None, template: str | None) -> None:
        self._model, self._system, self._template = model, system, template
        self._start()

    def ask(self, text: str, options: Mapping[str, Any]) -> Answer:
        return _ChatAnswer(self._session.stream(text, **options))

    def retry(self, options: Mapping[str, Any]) -> Answer:
        return _ChatAnswer(self._session.stream_retry(**options))

    def clear(self) -> None:
        self._start()

    def set_system(self, text: str) -> None:
        """Replace the system message, and keep what was said."""
        said = [each for each in self._session.messages if each["role"] != "system"]
        self._system = text or None
        self._start(said)

    def save(self, path: str) -> None:
        self._session.save(path)

    def load(self, path: str) -> None:
        self._session.load(path)

    def _start(self, messages: list[dict[str, Any]] | None = None) -> None:
        self._session = self._model.chat_session(
            self._system, messages=messages, chat_template=self._template
        )


class TaleTalk:
    """The model goes on from what the user writes."""

    def __init__(self, model: BitNetModel) -> None:
        self._model = model
        self._session = model.session()
        self._parts: list[str] = []  # of the whole text, in turns
        self._last: tuple[list[int], list[str], str] | None = None  # before the last answer

    def ask(self, text: str, options: Mapping[str, Any]) -> Answer:
        from ..sampling import SamplingParams

        given = dict(options)
        own = {"max_tokens": given.pop("max_tokens", None)}
        sampling = SamplingParams.from_checkpoint(self._model, **given)
        before, parts = self._session.tokens, list(self._parts)
        gap = " " if parts and not text[:1].isspace() else ""
        stream = self._session.stream(gap + text, sampling=sampling, **own)
        self._last = (before, parts, text)
        return _TaleAnswer(stream, [*parts, gap + text], self._keep)

    def retry(self, options: Mapping[str, Any]) -> Answer:
        if self._last is None:
            raise InvalidParameterError("there is no answer yet that could be replaced")
        before, parts, text = self._last
        self._session.truncate(min(len(before), len(self._session.tokens)))
        self._parts = parts
        return self.ask(text, options)

    def clear(self) -> None:
        self._session = self._model.session()
        self._parts, self._last = [], None

    def set_system(self, text: str) -> None:
        raise InvalidParameterError("this model has no chat template, so it has no system message")

    def save(self, path: str) -> None:
        import json

        with open(path, "w", encoding="utf-8") as file:
            file.write(json.dumps({"text": "".join(self._parts)}) + "\n")

    def load(self, path: str) -> None:
        from pathlib import Path

        from ..formats.json_file import read_json_object

        read = read_json_object(Path(path))
        text = read.get("text")
        if "messages" in read and text is None:
            raise FormatError(f"{path}: is a conversation, for models with a chat template")
        if not isinstance(text, str):
            raise FormatError(f"{path}: has no 'text'")
        self.clear()
        if text:
            self._session.generate(text, max_tokens=0)
            self._parts = [text]

    def _keep(self, parts: list[str]) -> None:
        self._parts = parts


class _ChatAnswer:
    def __init__(self, stream: ChatStream) -> None:
        self._stream, self.cancel = stream, stream.cancel

    def __iter__(self) -> Iterator[tuple[str, str]]:
        for delta in self._stream:
            yield delta.reasoning, delta.text

    @property
    def generation(self) -> GenerationResult:
        return self._stream.result.generation


class _TaleAnswer:
    def __init__(self, stream: TextIterator, parts: list[str], keep: Any) -> None:
        self._stream, self.cancel = stream, stream.cancel
        self._parts, self._keep = parts, keep

    def __iter__(self) -> Iterator[tuple[str, str]]:
        for piece in self._stream:
            yield "", piece
        if self._stream.result.prompt_tokens:  # it had begun
            self._keep([*self._parts, self._stream.result.text or ""])

    @property
    def generation(self) -> GenerationResult:
        return self._stream.result
