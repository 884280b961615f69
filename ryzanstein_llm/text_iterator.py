"""Pieces of a text while it is generated. The reader may stop at any time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

from .errors import SessionBusyError, UnfinishedStreamError
from .generation import Generation
from .notebook import as_html, show_growing
from .results import GenerationResult
from .text_table import plural

__all__ = ["TextIterator"]

Given = TypeVar("Given")


class TextIterator(Iterator[str]):
    """Pieces of text as they are generated. Together they are what `generate` returns.

    `cancel()`, `close()`, leaving a `with` block, or dropping the iterator ends the generation
    early. `result` is available once the iteration has ended. After dropping it, its memory is free
    for others the next time the model is used.
    """

    def __init__(self, generation: Generation) -> None:
        self._generation = generation
        self._turn = threading.RLock()
        self._busy = False

    def __next__(self) -> str:
        piece = self._exclusively(self._generation.next_piece)
        if piece is None:
            raise StopIteration
        return piece

    def cancel(self) -> None:
        """End the generation soon, also within a long prompt. May be called from any thread, and
        does not wait.

        The thread that iterates gets at most one more piece, of text that is there already, then
        the end of the iteration, and a result whose `finish_reason` is "cancelled". A stream that
        has not begun will yield nothing and leave its session unchanged. Other streams and later
        requests in the same session are not cancelled. After the end, `cancel` does nothing.
        """
        self._generation.cancel()

    def close(self) -> None:
        """Stop generating. What was generated so far stays in the session.

        After `cancel()`, this waits for a thread that is computing the next piece.

        Raises
        ------
        SessionBusyError
            If another thread is computing the next piece, and the stream was not cancelled.
        """
        self._exclusively(self._generation.close)

    def __enter__(self) -> TextIterator:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def display(self) -> GenerationResult:
        """Show the text in a notebook as it grows, and return the result at the end.

        Begins with the next piece, and updates at most about fifteen times a second. IPython in a
        terminal cannot change what it has shown, so there the text is shown once, at its end.

        Raises
        ------
        NotebookError
            Outside IPython. There, iterate and print.
        """
        show_growing(self)
        return self.result

    @property
    def result(self) -> GenerationResult:
        """The text with its ids, finish reason and timings.

        Raises
        ------
        UnfinishedStreamError
            Before the iteration has ended, or if it ended with an exception.
        """
        if self._generation.result is None:
            raise UnfinishedStreamError("the stream has not ended, or it failed")
        return self._generation.result

    def __repr__(self) -> str:
        return f"TextIterator({self._state()})"

    def _repr_html_(self) -> str:
        return as_html(repr(self))

    def _state(self) -> str:
        """Such as "running with 3 tokens"."""
        generation = self._generation
        count = plural(generation.new_tokens, "token")
        result = generation.result
        if result is not None and result.finish_reason != "cancelled":
            return f"finished {result.finish_reason!r} with {count}"
        if result is not None or generation.cancelled:
            return f"{'cancelled' if generation.cancelled else 'closed'} with {count}"
        if generation.over:
            return "failed"
        return f"running with {count}" if generation.started else "not started"

    def _exclusively(self, step: Callable[[], Given]) -> Given:
        """Call `step` while no other thread uses the generation. Waits for another thread only
        after `cancel()` or after the end, because only then it will soon be done."""
        if self._busy and not (self._generation.cancelled or self._generation.over):
            raise SessionBusyError("the stream is in use by another thread; cancel() stops it")
        if self._busy and self._generation.computes_here:
            # a signal handler of the thread that computes for the one that reads
            raise SessionBusyError("the stream is in use, and this thread computes for it")
        with self._turn:
            if self._busy:  # by this thread: a signal handler interrupted its `next`
                raise SessionBusyError("the stream is in use by this thread; call cancel() instead")
            try:
                self._busy = True
                return step()
            finally:
                self._busy = False
