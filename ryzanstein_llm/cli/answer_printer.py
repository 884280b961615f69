"""Answers of a chat while they are computed, and what there is to say about them."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

from .console import can_style, remark, say, write
from .talk import Answer

__all__ = ["AnswerPrinter"]


class AnswerPrinter:
    """Prints answers on standard output, and remarks on standard error.

    Parameters
    ----------
    interactive : bool
        Whether a person reads: then Ctrl-C stops an answer, and speed and context are shown.
    context_length : int
    """

    def __init__(self, interactive: bool, context_length: int) -> None:
        self._interactive, self._context_length = interactive, context_length
        self._forgotten = ""  # what the user was told last

    def show(self, answer: Answer) -> None:
        """Compute and print one answer."""
        # from a pipe, Ctrl-C ends the program as usual
        stops = _interrupts(answer.cancel) if self._interactive else contextlib.nullcontext()
        with stops:
            self._print(answer)
        forgotten = answer.forgotten
        if forgotten and forgotten != self._forgotten:
            note = f"the context is full; the oldest part is forgotten: {forgotten} so far"
            (remark if self._interactive else say)(note)
        self._forgotten = forgotten
        if self._interactive:
            self._report(answer)

    def _print(self, answer: Answer) -> None:
        styled = self._interactive and can_style()
        thinking, last, begun, ended = False, "", False, False
        try:
            for reasoning, text in answer:
                if reasoning and styled:
                    write(("" if thinking else "\x1b[2m") + reasoning)
                    thinking = True
                if text:
                    text = text if begun else text.lstrip()
                    write(("\x1b[0m\n\n" if thinking else "") + text)
                    thinking, begun = False, begun or bool(text)
                    last = text or last
            ended = True
        finally:  # an error has a line of its own
            if ended or thinking or last:
                write(("\x1b[0m" if thinking else "") + ("" if last.endswith("\n") else "\n"))

    def _report(self, answer: Answer) -> None:
        run = answer.generation
        rate = run.timings.tokens_per_second
        parts = [f"{rate:.1f} tokens/s"] if rate else []
        if answer.used is not None:
            parts.append(f"{answer.used:,} of {self._context_length:,} tokens of the context")
        if run.finish_reason == "length":
            parts.append("cut off")
        elif run.finish_reason == "cancelled":
            parts.append("stopped" if run.ids else "stopped before an answer; /retry asks again")
        remark(", ".join(parts))


@contextlib.contextmanager
def _interrupts(cancel: Callable[[], None]) -> Iterator[None]:
    """Within the block, Ctrl-C calls `cancel`; a second one interrupts as usual."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = signal.getsignal(signal.SIGINT)

    def stop(*_: object) -> None:
        signal.signal(signal.SIGINT, former)
        cancel()

    signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)
