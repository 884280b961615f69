"""Computes what the tasks of an event loop wait for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

from ..batch import Batch, Workload
from ..engine.engine import Engine
from ..engine.scheduler import DECODING_ROWS
from ..generation import Generation
from .brief_thread import BriefThread, start_thread

__all__ = ["Request", "Runner"]

AHEAD = 16
"""Pieces of a stream that may be there and not read. Then it waits for its reader."""


class Request:
    """A generation that a task waits for.

    Parameters
    ----------
    generation : Generation
    wake : callable (request)
        Called in the loop when it is over.
    stream : bool
        Whether its pieces are read. If so, `wake` is also called when there are more pieces, and
        when it is paused.

    Attributes
    ----------
    over : bool
    error : Exception or None
        What ended it.
    paused : bool
        Whether it waits until somebody reads. Then it has to be submitted again.
    announced : int
        How many pieces the loop was told of.
    """

    def __init__(
        self, generation: Generation, wake: Callable[[Request], None], *, stream: bool
    ) -> None:
        self.generation, self.wake, self.stream = generation, wake, stream
        self.over = self.paused = False
        self.error: Exception | None = None
        self.announced = 0

    @property
    def too_far_ahead(self) -> bool:
        """Whether its reader is so slow that computing more is of no use."""
        generation = self.generation
        return self.stream and not generation.cancelled and generation.unread_pieces >= AHEAD


class Runner:
    """Of all requests of an event loop to a model, one thread waits for the tokens. It begins with
    the first request, and ends when there is none.

    More than 256 wait their turn. The thread tells the loop of what is new once a pass. It alone
    ends generations, so tasks only read their pieces and cancel them.

    Parameters
    ----------
    engine : Engine
    loop : asyncio.AbstractEventLoop
    """

    def __init__(self, engine: Engine, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._workload = Workload(engine, DECODING_ROWS)
        self._lock = threading.Lock()
        self._alive = False
        self._requests: dict[Generation, Request] = {}
        self.prepare = BriefThread(loop).call
        """Awaits a function that runs in a thread: reading a long prompt takes a while."""

    def submit(self, request: Request) -> None:
        """Compute this request, or go on with it. Called in the loop."""
        with self._lock:
            if not self._alive:
                start_thread(self._work, "ryzanstein_llm computes")
                self._alive = True
            request.paused = False
            self._workload.add(request.generation)
            self._requests[request.generation] = request

    def go_on(self, request: Request) -> None:
        """Submit it again if it was paused and need not wait any more. Called in the loop."""
        generation = request.generation
        if request.paused and (generation.cancelled or generation.unread_pieces <= AHEAD // 2):
            self.submit(request)

    async def run(self, batch: Batch) -> None:
        """Compute a batch. If the task is cancelled, or an error is raised, none of it goes on."""
        ended: asyncio.Queue[Request] = asyncio.Queue()
        try:
            for generation in batch.waiting:
                self.submit(Request(generation, ended.put_nowait, stream=False))
            for _ in batch.waiting:
                request = await ended.get()
                batch.take(request.generation, request.error)
        except BaseException:
            for generation in batch.waiting:
                generation.cancel()
            raise

    # ---- in the thread ---------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            try:
                for generation in self._workload.wait(self._watch):
                    self._end(generation, generation.end())
            except Exception as error:  # the model was closed, for one
                self._give_up(error)
            except BaseException as error:  # of a library: no task may wait for ever
                failure = RuntimeError(f"the thread that computes was ended by {error!r}")
                failure.__cause__ = error
                self._give_up(failure)
            self._pause()
            with self._lock:
                if not self._requests:
                    self._alive = False
                    return

    def _give_up(self, error: Exception) -> None:
        for generation in self._workload.give_up():
            self._end(generation, error)

    def _end(self, generation: Generation, error: Exception | None) -> None:
        with self._lock:
            request = self._requests.pop(generation)
        request.error, request.over = error, True
        self._tell([request])

    def _watch(self) -> bool:
        """Called after each pass."""
        if self._loop.is_closed():
            self._cancel_all()
            return False
        fresh, pause = [], False
        for request in list(self._requests.values()):
            if request.stream:
                pieces = request.generation.pieces
                if pieces > request.announced:
                    request.announced = pieces
                    fresh.append(request)
                pause = pause or request.too_far_ahead
        self._tell(fresh)
        return pause

    def _pause(self) -> None:
        """Compute no more of what nobody reads."""
        for request in list(self._requests.values()):
            if request.too_far_ahead:
                self._workload.remove(request.generation)
                with self._lock:
                    del self._requests[request.generation]
                request.paused = True
                self._tell([request])

    def _tell(self, requests: list[Request]) -> None:
        if requests:
            try:
                self._loop.call_soon_threadsafe(_wake, requests)
            except RuntimeError:  # the loop was closed: nobody waits
                self._cancel_all()

    def _cancel_all(self) -> None:
        for generation in list(self._requests):
            generation.cancel()


def _wake(requests: list[Request]) -> None:
    for request in requests:
        request.wake(request)
