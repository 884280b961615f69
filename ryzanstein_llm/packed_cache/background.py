"""Work in another thread while a file of packed weights is made. Where the system refuses a thread,
the calling thread does it.

The threads are daemons that hold nothing of the caller. After Ctrl-C nobody waits for them: a
`join` could be interrupted too.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["Call", "WriteBehind"]

T = TypeVar("T")


def _start(run: Callable[[], None]) -> bool:
    """Start a thread; whether the system allows one."""
    try:
        threading.Thread(target=run, daemon=True).start()
    except RuntimeError:  # "can't start new thread"
        return False
    return True


class Call(Generic[T]):
    """A call whose result is needed later.

    Parameters
    ----------
    function : callable without parameters
    """

    def __init__(self, function: Callable[[], T]) -> None:
        self._function = function
        self._results: SimpleQueue[tuple[T] | BaseException] = SimpleQueue()
        self._started = _start(self._run)

    def _run(self) -> None:
        try:
            self._results.put((self._function(),))
        except BaseException as error:
            self._results.put(error)

    def result(self) -> T:
        """What the function returns, or raises. To be called once."""
        if not self._started:
            return self._function()
        found = self._results.get()
        if isinstance(found, BaseException):
            raise found
        return found[0]


class WriteBehind:
    """Passes arrays to `write` in another thread, in order. A context manager: after its block,
    everything is written. After an exception in the block, what waits is dropped, and a call of
    `write` may still be running.

    Parameters
    ----------
    write : callable with an array
    most_bytes : int
        Arrays of at most so many bytes wait to be written; one always may.
    """

    def __init__(self, write: Callable[[NDArray[np.uint8]], object], most_bytes: int) -> None:
        self._to_file, self._most_bytes = write, most_bytes
        self._waiting: SimpleQueue[NDArray[Any] | None] = SimpleQueue()
        self._written: SimpleQueue[int | BaseException] = SimpleQueue()
        self._ahead = 0  # bytes that were given to the thread, and are not known to be written
        self._dropped = False
        self._started = _start(self._run)

    def _run(self) -> None:
        while (data := self._waiting.get()) is not None and not self._dropped:
            try:
                self._to_file(data)
            except BaseException as error:
                self._written.put(error)
                return
            size = data.nbytes
            del data  # before the size tells that there is room for another
            self._written.put(size)

    def write(self, data: NDArray[np.uint8]) -> None:
        """Write an array, which nobody may change any more. Waits while too many bytes wait.

        Raises
        ------
        Exception
            What writing an earlier array has raised.
        """
        if not self._started:
            self._to_file(data)
            return
        while self._ahead and self._ahead + data.nbytes > self._most_bytes:
            self._wait_for_one()
        self._ahead += data.nbytes
        self._waiting.put(data)

    def _wait_for_one(self) -> None:
        written = self._written.get()
        if isinstance(written, BaseException):
            raise written
        self._ahead -= written

    def __enter__(self) -> WriteBehind:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._dropped = kind is not None
        try:
            while kind is None and self._ahead:
                self._wait_for_one()
        finally:
            self._waiting.put(None)
