"""Conversations that do not fit the context: their oldest turns are left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..errors import ContextOverflowError
from ..errors.request import LONGER_CONTEXT
from ..options import GenerationOptions
from ..text.chat_prompt import ChatPrompt

__all__ = ["Make", "Messages", "fitting_prompt"]

Messages = Sequence[Mapping[str, Any]]
Make = Callable[[Messages], ChatPrompt]


def fitting_prompt(
    make: Make, messages: Messages, options: GenerationOptions, capacity: int
) -> tuple[ChatPrompt, int]:
    """(the prompt for checked messages, how many of them were left out so that it fits).

    System messages at the beginning and the last turn always stay. A turn begins with a message of
    the user, and goes up to the next one. As few turns as possible are left out, the oldest ones,
    so that the prompt and room for an answer fit: `max_tokens`, but not more than a quarter of the
    context if `overflow` is "shift", and this quarter if `max_tokens` is None. Where the last turn
    leaves less than this quarter, it stays alone, and one token more has to fit.

    Parameters
    ----------
    make : callable (messages) -> ChatPrompt
    messages : sequence of dict
    options : GenerationOptions
    capacity : int
        Tokens that fit.

    Raises
    ------
    ContextOverflowError
        If the last turn does not fit either. Also what `make` raises.
    """
    if options.overflow == "error":
        return make(messages), 0
    least = room = capacity if options.max_tokens is None else options.max_tokens
    if options.max_tokens is None or options.overflow == "shift":
        least, room = min(least, 1), min(room, capacity // 4)
    begin = next(
        (i for i, each in enumerate(messages) if each["role"] not in ("system", "developer")),
        len(messages),
    )
    later = [i for i in range(begin + 1, len(messages)) if messages[i]["role"] == "user"]
    starts = [begin, *later]  # of the first turn that stays

    def fitting(start: int, new: int = room) -> ChatPrompt | ContextOverflowError:
        try:
            prompt = make([*messages[:begin], *messages[start:]])
        except ContextOverflowError as error:
            return error
        needed = len(prompt.ids) + new
        if needed <= capacity:
            return prompt
        return ContextOverflowError(needed, capacity, _reason(len(prompt.ids), new, capacity))

    found = fitting(starts[0])
    if isinstance(found, ChatPrompt):
        return found, 0
    low, high = 0, len(starts) - 1  # that of low does not fit
    best = fitting(starts[high]) if high else found
    if not isinstance(best, ChatPrompt) and least < room:
        best = fitting(starts[high], least)
    if not isinstance(best, ChatPrompt):
        raise best
    while high - low > 1:
        middle = (low + high) // 2
        found = fitting(starts[middle])
        if isinstance(found, ChatPrompt):
            high, best = middle, found
        else:
            low = middle
    return best, starts[high] - begin


def _reason(tokens: int, new: int, capacity: int) -> str:
    """What is too long, if `new` tokens more do not fit after the system messages and the last
    turn, and what to change."""
    if tokens < capacity and new > 1:
        return (
            f"the system messages and the last turn have {tokens}, and max_tokens={new}; lower "
            f"max_tokens to {capacity - tokens} or less"
        )
    return (
        "the system messages and the last turn, which are never left out, are too long; shorten "
        f"them, or {LONGER_CONTEXT}"
    )
