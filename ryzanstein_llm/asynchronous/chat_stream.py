"""An answer in pieces for asyncio."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from ..chat import ChatDelta, ChatResult
from ..chat.answer import AnswerParser
from ..chat.request import ChatRequest
from ..errors import UnfinishedStreamError
from ..generation import Generation
from ..notebook import as_html
from .runner import Runner
from .stream import AsyncTextIterator

__all__ = ["AsyncChatStream"]


class AsyncChatStream(AsyncIterator[ChatDelta]):
    """Pieces of an answer as they are generated. Together they are what `achat` returns. It ends
    early as an `AsyncTextIterator` does."""

    def __init__(self, ask: Callable[[], ChatRequest], runner: Callable[[], Runner]) -> None:
        self._ask = ask
        self._request: ChatRequest | None = None
        self._parser: AnswerParser | None = None
        self._pieces = AsyncTextIterator(self._prepare, runner)
        self._result: ChatResult | None = None
        self._flushed = False

    async def __anext__(self) -> ChatDelta:
        while not self._flushed:
            piece = await anext(self._pieces, None)
            if piece is None:
                delta = self._end()
            else:
                assert self._parser is not None
                delta = self._parser.push(piece)
            if delta:
                return delta
        raise StopAsyncIteration

    def cancel(self) -> None:
        """End the answer soon; does not wait. Called in the event loop."""
        self._pieces.cancel()

    async def aclose(self) -> None:
        """End the answer now. Closing twice is fine."""
        await self._pieces.aclose()
        if not self._flushed:
            self._end()

    @property
    def result(self) -> ChatResult:
        """The whole answer.

        Raises
        ------
        UnfinishedStreamError
            Before the answer has ended, or if it ended with an exception.
        """
        if self._result is None:
            request = self._request
            if request is None or request.generation.result is None:
                raise UnfinishedStreamError("the stream has not ended, or it failed")
            self._result = request.answer(request.generation.result)
        return self._result

    async def __aenter__(self) -> AsyncChatStream:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return repr(self._pieces).replace("AsyncTextIterator", "AsyncChatStream")

    def _repr_html_(self) -> str:
        return as_html(repr(self))

    def _prepare(self) -> Generation:
        self._request = self._ask()
        self._parser = self._request.parser()
        return self._request.generation

    def _end(self) -> ChatDelta:
        """What the parser held back."""
        self._flushed = True
        if self._request is None or self._parser is None:  # closed before it began
            return ChatDelta()
        return self._parser.flush()
