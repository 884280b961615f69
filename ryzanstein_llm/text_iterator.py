"""Pieces of a text while it is generated. Whoever reads them may leave at any time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

from .errors import SessionBusyError
from .generation import Generation
from .notebook import as_html, show_growing
from .results import GenerationResult
from .text_table import plural

__all__ = ["TextIterator"]

Given = TypeVar("Given")


class TextIterator(Iterator[str]):
    """Pieces of text as they are generated; together they are what `generate` returns.

    `cancel()`, `close()`, leaving a `with` block, or dropping it ends the generation early;
    `result` is there once iteration has ended.
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
        """End the generation soon, also during a long prompt; from any thread, without waiting.

        The thread that iterates gets the end of the iteration (before it at most one more piece, of
        text that is there already), and a result whose `finish_reason` is "cancelled". A stream
        that has not begun yields nothing then and leaves its session unchanged. Nothing else is
        cancelled: no other stream, and no later request in the same session. Does nothing after
        the end.
        """
        self._generation.cancel()

    def close(self) -> None:
        """Stop generating. What was generated so far stays in the session.

        After `cancel()`, waits for a thread that is computing the next piece.

        Raises
        ------
        SessionBusyError
            If another thread is computing the next piece and the stream was not cancelled.
        """
        self._exclusively(self._generation.close)

    def __enter__(self) -> TextIterator:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        generation = getattr(self, "_generation", None)
        if generation is not None and generation.begun:
            generation.close()

    def display(self) -> GenerationResult:
        """Show the text in a notebook as it grows, to the end, and return the result.

        Begins with the next piece. About fifteen updates a second at most. IPython in a terminal
        cannot change what it has shown: there the text is shown once, at its end.

        Raises
        ------
        NotebookError
            Outside IPython; iterate and print there.
        """
        show_growing(self)
        return self.result

    @property
    def result(self) -> GenerationResult:
        """Ids, finish reason, timings.

        Raises
        ------
        RuntimeError
            While the iteration is not finished, or if it ended with an exception.
        """
        if self._generation.result is None:
            raise RuntimeError("the stream has not ended, or it failed")
        return self._generation.result

    def __repr__(self) -> str:
        return f"TextIterator({self._state()})"

    def _repr_html_(self) -> str:
        return as_html(repr(self))

    def _state(self) -> str:
        """As "running with 3 tokens"."""
        generation = self._generation
        count = plural(generation.new_tokens, "token")
        result = generation.result
        if result is not None and result.finish_reason != "cancelled":
            return f"finished {result.finish_reason!r} with {count}"
        if result is not None or generation.cancelled:
            return f"{'cancelled' if generation.cancelled else 'closed'} with {count}"
        if generation.over:
            return "failed"
        return f"running with {count}" if generation.begun else "not started"

    def _exclusively(self, step: Callable[[], Given]) -> Given:
        """`step()` while no other thread is in the generation. Waits for one only after `cancel()`,
        since only then it will soon be out."""
        if self._busy and not self._generation.cancelled:
            raise SessionBusyError("the stream is in use by another thread; cancel() ends that")
        if self._busy and self._generation.computes_here:
            # a signal handler of the thread that computes for the one that reads
            raise SessionBusyError("the stream is in use, and this thread computes for it")
        with self._turn:
            if self._busy:  # by this thread: a signal handler interrupts its `next`
                raise SessionBusyError("the stream is in use by this thread; cancel() is enough")
            try:
                self._busy = True
                return step()
            finally:
                self._busy = False
