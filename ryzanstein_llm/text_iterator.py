"""Pieces of a text while it is generated. Whoever reads them may leave at any time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from inspect import GEN_CLOSED, GEN_CREATED, GEN_RUNNING, getgeneratorstate
from typing import TypeVar

from .errors import SessionBusyError
from .generation import GenerationResult, Timings
from .notebook import as_html, show_growing
from .runner import new_cancel_flag
from .text_table import plural

__all__ = ["Outcome", "TextIterator"]

Given = TypeVar("Given")


class Outcome:
    """What a stream and its generation share. Apart from the iterator, so that dropping the
    iterator ends the generation at once and not when the garbage collector comes round.

    Attributes
    ----------
    cancel : CancelFlag
        Of this generation alone: the next one in the same session has another.
    tokens : int
        Generated so far.
    result : GenerationResult or None
        Once the generation has ended without an error.
    """

    def __init__(self) -> None:
        self.cancel = new_cancel_flag()
        self.tokens = 0
        self.result: GenerationResult | None = None


class TextIterator(Iterator[str]):
    """Pieces of text as they come; together they are what `generate` returns.

    `cancel()`, `close()`, leaving a `with` block, or dropping it ends the generation early;
    `result` is there once iteration has ended.
    """

    def __init__(self, pieces: Callable[[Outcome], Generator[str, None, None]]) -> None:
        self._outcome = Outcome()
        self._pieces = pieces(self._outcome)
        self._turn = threading.RLock()

    def __next__(self) -> str:
        return self._exclusively(self._next)

    def cancel(self) -> None:
        """End the generation soon, also during a long prompt; from any thread, without waiting.

        Whoever iterates gets the end of the iteration (before it at most one more piece, of text
        that is there already), and a result whose `finish_reason` is "cancelled". A stream that
        has not begun yields nothing then and leaves its session as it is. Nothing else is
        cancelled: no other stream, and no later request in the same session. Does nothing after
        the end.
        """
        if self._outcome.result is None:
            self._outcome.cancel[0] = 1

    def close(self) -> None:
        """Stop generating. What came so far stays in the session.

        After `cancel()`, waits for a thread that is computing the next piece.

        Raises
        ------
        SessionBusyError
            If another thread is computing the next piece and the stream was not cancelled.
        """
        self._exclusively(self._end)

    def __enter__(self) -> TextIterator:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

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
        if self._outcome.result is None:
            raise RuntimeError("the stream has not ended, or it failed")
        return self._outcome.result

    def __repr__(self) -> str:
        return f"TextIterator({self._state()})"

    def _repr_html_(self) -> str:
        return as_html(repr(self))

    def _state(self) -> str:
        """As "running with 3 tokens"."""
        outcome, cancelled = self._outcome, bool(self._outcome.cancel[0])
        count = plural(outcome.tokens, "token")
        if outcome.result is not None and outcome.result.finish_reason != "cancelled":
            return f"finished {outcome.result.finish_reason!r} with {count}"
        if outcome.result is not None or cancelled:
            return f"{'cancelled' if cancelled else 'closed'} with {count}"
        if self._is(GEN_CREATED):
            return "not started"
        return "failed" if self._is(GEN_CLOSED) else f"running with {count}"

    def _is(self, state: str) -> bool:
        return getgeneratorstate(self._pieces) == state

    def _exclusively(self, step: Callable[[], Given]) -> Given:
        """`step()` while no other thread is in the generator. Waits for one only after `cancel()`,
        since only then it will soon be out."""
        if self._is(GEN_RUNNING) and not self._outcome.cancel[0]:
            raise SessionBusyError("the stream is in use by another thread; cancel() ends that")
        with self._turn:
            if self._is(GEN_RUNNING):  # by this thread: a signal handler interrupts its `next`
                raise SessionBusyError("the stream is in use by this thread; cancel() is enough")
            return step()

    def _next(self) -> str:
        if self._outcome.cancel[0] and self._is(GEN_CREATED):
            self._end()
        return next(self._pieces)

    def _end(self) -> None:
        unbegun = self._is(GEN_CREATED)
        self._pieces.close()
        if unbegun:
            self._outcome.result = GenerationResult(
                text="",
                ids=[],
                finish_reason="cancelled",
                prompt_tokens=0,
                reused_tokens=0,
                timings=Timings(),
            )
