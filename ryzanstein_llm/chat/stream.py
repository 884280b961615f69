"""An answer in pieces."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ..errors import UnfinishedStreamError
from ..text_iterator import TextIterator
from .request import ChatRequest
from .result import ChatDelta, ChatResult

__all__ = ["ChatStream"]


class ChatStream(Iterator[ChatDelta]):
    """Pieces of an answer as they are generated. Together they are what `chat` returns.

    `cancel()`, `close()`, leaving a `with` block, or dropping the stream ends the answer early.
    `result` is available once the iteration has ended. Use it from one thread at a time; only
    `cancel` may be called from any thread.
    """

    def __init__(
        self, request: ChatRequest, on_end: Callable[[ChatResult], None] | None = None
    ) -> None:
        self._request = request
        self._pieces = TextIterator(request.generation)
        self._parser = request.parser()
        self._on_end = on_end
        self._flushed = False
        self._result: ChatResult | None = None

    def __next__(self) -> ChatDelta:
        while not self._flushed:
            piece = next(self._pieces, None)
            if piece is None:
                self._flushed = True
                self._settle()  # before the last piece is given, so that a session is free again
            delta = self._parser.flush() if piece is None else self._parser.push(piece)
            if delta:
                return delta
        raise StopIteration

    def cancel(self) -> None:
        """End the answer soon. May be called from any thread, and does not wait. See
        `TextIterator.cancel`."""
        self._pieces.cancel()

    def close(self) -> None:
        """End the answer now. A chat session keeps what was generated so far.

        Raises
        ------
        SessionBusyError
            If another thread is computing the next piece, and the stream was not cancelled.
        """
        self._pieces.close()
        self._flushed = True
        self._settle()

    @property
    def result(self) -> ChatResult:
        """The whole answer.

        Raises
        ------
        UnfinishedStreamError
            Before the iteration has ended, or if it ended with an exception.
        """
        if self._result is None:
            raise UnfinishedStreamError("the stream has not ended, or it failed")
        return self._result

    @property
    def over(self) -> bool:
        """Whether nothing more will be generated, and everybody knows the result."""
        generation = self._request.generation
        return generation.over and (self._result is not None or generation.result is None)

    def __enter__(self) -> ChatStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        request = getattr(self, "_request", None)
        if request is not None and request.generation.started and not request.generation.over:
            self.close()

    def __repr__(self) -> str:
        return repr(self._pieces).replace("TextIterator", "ChatStream")

    def _settle(self) -> None:
        generation = self._request.generation.result
        if self._result is None and generation is not None:
            result = self._request.answer(generation)
            if self._on_end is not None and self._request.generation.started:
                self._on_end(result)
            self._result = result
