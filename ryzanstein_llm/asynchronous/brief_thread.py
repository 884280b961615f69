"""A thread that lives as long as there is something to do."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from ..errors import ResourceLimitError

__all__ = ["BriefThread", "start_thread"]

Made = TypeVar("Made")


def start_thread(work: Callable[[], None], name: str) -> None:
    """Call `work` in a thread of its own.

    Raises
    ------
    ResourceLimitError
        The system refuses a thread.
    """
    try:
        threading.Thread(target=work, name=name).start()
    except RuntimeError as error:  # "can't start new thread"
        raise ResourceLimitError(f"{error} (a limit of processes or memory?)") from error


class BriefThread:
    """Calls functions for the tasks of an event loop, one after another. Its thread begins with the
    first, and ends with the last.

    Parameters
    ----------
    loop : asyncio.AbstractEventLoop
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lock = threading.Lock()
        self._alive = False
        self._jobs: deque[tuple[Callable[[], Any], asyncio.Future[Any]]] = deque()

    async def call(self, function: Callable[[], Made]) -> Made:
        """What `function` returns or raises. It is not called if the task is cancelled before, or
        if the system refuses a thread (ResourceLimitError)."""
        future: asyncio.Future[Made] = self._loop.create_future()
        with self._lock:
            if not self._alive:
                start_thread(self._work, "ryzanstein_llm prepares")
                self._alive = True
            self._jobs.append((function, future))
        return await future

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._jobs:
                    self._alive = False
                    return
                function, future = self._jobs.popleft()
            if future.cancelled():
                continue
            value, error = None, None
            try:
                value = function()
            except BaseException as problem:
                error = problem
            with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits
                self._loop.call_soon_threadsafe(_settle, future, value, error)
            del function, future, value, error


def _settle(future: asyncio.Future[Any], value: Any, error: BaseException | None) -> None:
    if future.done():  # the task was cancelled
        return
    if error is None:
        future.set_result(value)
    else:
        future.set_exception(error)
