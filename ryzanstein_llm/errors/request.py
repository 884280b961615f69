"""What can go wrong with the tokens of a request, and with what a text means."""

from __future__ import annotations

from typing import Any

from .base import RyzansteinError

__all__ = [
    "LONGER_CONTEXT",
    "ContextOverflowError",
    "IncompleteOutputError",
    "InvalidOutputError",
]

LONGER_CONTEXT = "open the model with a longer context if the checkpoint has one"
"""What helps whenever there are more tokens than the context holds."""


class ContextOverflowError(RyzansteinError, ValueError):
    """More tokens than the context holds.

    Attributes
    ----------
    needed, context_length : int
        Tokens asked for, and tokens that the context has room for. If a text is so long that it was
        refused without counting, `needed` is the least number that it can have.
    reason : str
        What is too long, and what to change.
    """

    def __init__(
        self,
        needed: int,
        context_length: int,
        reason: str = f"the prompt is too long; shorten it, or {LONGER_CONTEXT}",
    ) -> None:
        super().__init__(
            f"{needed} tokens do not fit a context of {context_length} tokens: {reason}"
        )
        self.needed, self.context_length, self.reason = needed, context_length, reason

    def __reduce__(self) -> tuple[Any, ...]:
        # the default would pass the message, and unpickling would fail
        arguments = (self.needed, self.context_length, self.reason)
        return type(self), arguments, {"args": self.args}


class IncompleteOutputError(RyzansteinError, ValueError):
    """A text ended before the form that was asked for was complete, so it cannot be read.

    Attributes
    ----------
    argument : str
        What asked for the form: "schema", "regex", "choices", "grammar" or "response_format".
    text : str
        The text so far.
    finish_reason : str
        Why it ended: "length", "stop" or "cancelled".
    context_full : bool
        For "length": whether the context was full. Otherwise, `max_tokens` were reached.
    """

    def __init__(
        self, argument: str, text: str, finish_reason: str, context_full: bool = False
    ) -> None:
        advice = ""
        if finish_reason == "length" and context_full:
            advice = f" (the context is full; shorten the prompt, or {LONGER_CONTEXT})"
        elif finish_reason == "length":
            advice = " (max_tokens are reached; raise max_tokens)"
        super().__init__(
            f"{argument}: the text is not complete, because it ended with finish_reason "
            f"{finish_reason!r}{advice}: {_shown(text)}"
        )
        self.argument, self.text, self.finish_reason = argument, text, finish_reason
        self.context_full = context_full

    def __reduce__(self) -> tuple[Any, ...]:
        arguments = (self.argument, self.text, self.finish_reason, self.context_full)
        return type(self), arguments, {"args": self.args}


class InvalidOutputError(RyzansteinError, ValueError):
    """A text is complete, but what it should become refuses it: a validator of the class given as
    `schema`, which may want more than a JSON schema can say, or a limit of Python's JSON reader.
    `__cause__` is the error that said so, such as Pydantic's ValidationError; it is not pickled.

    Attributes
    ----------
    argument : str
        What asked for the form: "schema" or "response_format".
    text : str
        The text.
    problem : str
        The message of `__cause__`.
    """

    def __init__(self, argument: str, text: str, problem: str) -> None:
        super().__init__(f"{argument}: the text {_shown(text)} cannot be read: {problem}")
        self.argument, self.text, self.problem = argument, text, problem

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.argument, self.text, self.problem), {"args": self.args}


def _shown(text: str) -> str:
    return repr(text if len(text) <= 200 else f"{text[:100]}...{text[-100:]}")
