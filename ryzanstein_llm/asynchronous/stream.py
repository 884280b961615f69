"""Pieces of a text for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from ..errors import SessionBusyError, UnfinishedStreamError
from ..generation import Generation
from ..notebook import as_html
from ..results import GenerationResult
from ..text_table import plural
from .runner import Request, Runner

__all__ = ["AsyncTextIterator"]


class AsyncTextIterator(AsyncIterator[str]):
    """Pieces of text as they are generated. Together they are what `agenerate` returns.

    Computing begins with the first piece that is asked for, and pauses when 16 pieces were not
    read. `cancel()`, `await aclose()`, leaving an `async with` block, or cancelling the task that
    waits for a piece ends the generation early. Use it from one task at a time.

    Parameters
    ----------
    prepare : callable () -> Generation
        Makes the request, in a thread.
    runner : callable () -> Runner
        The runner of the running event loop.
    """

    def __init__(self, prepare: Callable[[], Generation], runner: Callable[[], Runner]) -> None:
        self._prepare, self._runner = prepare, runner
        self._news: _News | None = None
        self._request: Request | None = None
        self._busy = self._cancelled = self._closed = False

    async def __anext__(self) -> str:
        if self._busy:
            raise SessionBusyError("the stream is in use by another task")
        self._busy = True
        try:
            piece = await self._next()
        except asyncio.CancelledError:
            self.cancel()
            raise
        finally:
            self._busy = False
        if piece is None:
            raise StopAsyncIteration
        return piece

    def cancel(self) -> None:
        """End the generation soon, also within a long prompt; does not wait. Called in the event
        loop.

        The iteration ends after the pieces that are there already, and the `finish_reason` of the
        result is "cancelled". A stream that has not begun yields nothing.
        """
        self._cancelled = True
        request = self._request
        if request is not None and not request.over:
            request.generation.cancel()
            if self._news is not None:
                self._news(request)

    async def aclose(self) -> None:
        """End the generation now. Closing twice is fine."""
        self.cancel()
        self._closed = True
        while self._news is not None and self._request is not None and not self._request.over:
            await self._news.wait()

    @property
    def result(self) -> GenerationResult:
        """The text with its ids, finish reason and timings.

        Raises
        ------
        UnfinishedStreamError
            Before the generation has ended, or if it ended with an exception.
        """
        request = self._request
        if request is None or request.generation.result is None:
            raise UnfinishedStreamError("the stream has not ended, or it failed")
        return request.generation.result

    async def __aenter__(self) -> AsyncTextIterator:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"AsyncTextIterator({self._state()})"

    def _repr_html_(self) -> str:
        return as_html(repr(self))

    def _state(self) -> str:
        """Such as "running with 3 tokens"."""
        request = self._request
        if request is None:
            return "cancelled before it began" if self._cancelled else "not started"
        count = plural(request.generation.new_tokens, "token")
        result = request.generation.result
        if request.over and result is None:
            return "failed"
        if result is not None and result.finish_reason != "cancelled":
            return f"finished {result.finish_reason!r} with {count}"
        return f"{'running' if result is None else 'cancelled'} with {count}"

    async def _next(self) -> str | None:
        if self._closed:
            return None
        if self._request is None or self._news is None:
            self._request, self._news = await self._begin()
        request, news = self._request, self._news
        while True:
            over = request.over  # first, because the last piece comes just before the end
            piece = request.generation.ready_piece()
            news.runner.go_on(request)
            if piece is not None:
                return piece
            if over:
                if request.error is not None and not self._closed:
                    self._closed = True
                    raise request.error
                return None
            await news.wait()

    async def _begin(self) -> tuple[Request, _News]:
        runner = self._runner()
        generation = await runner.prepare(self._prepare)
        if self._cancelled:
            generation.cancel()
        news = _News(runner)
        request = Request(generation, news, stream=True)
        runner.submit(request)
        return request, news


class _News:
    """Where a task waits for what a request tells. It does not know the stream: no cycle keeps one
    that was dropped until the garbage collector comes."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self._future: asyncio.Future[None] | None = None

    def __call__(self, request: Request) -> None:
        self.runner.go_on(request)
        if self._future is not None and not self._future.done():
            self._future.set_result(None)

    async def wait(self) -> None:
        if self._future is None or self._future.done():
            self._future = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._future)  # another task may wait, too: for the end
