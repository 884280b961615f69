"""Conversations that do not fit the context: their oldest turns are left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from ..errors import ContextOverflowError
from ..errors.request import LONGER_CONTEXT
from ..options import GenerationOptions
from ..text.chat_prompt import ChatPrompt

__all__ = ["Make", "Messages", "fitting_prompt"]

Messages = Sequence[Mapping[str, Any]]
Make = Callable[[Messages], ChatPrompt]


def fitting_prompt(
    make: Make,
    messages: Messages,
    options: GenerationOptions,
    capacity: int,
    left_out: int | None = None,
) -> tuple[ChatPrompt, int]:
    """(the prompt for checked messages, how many of them were left out so that it fits).

    System messages at the beginning and the last turn always stay. A turn begins with a message of
    the user, and goes up to the next one. The prompt and room for an answer have to fit:
    `max_tokens`, but not more than a quarter of the context if `overflow` is "shift", and this
    quarter if `max_tokens` is None. Where the last turn leaves less than this quarter, it stays
    alone, and one token more has to fit.

    When turns have to go, more of them go than would be necessary, so that the next prompts can
    begin with the same turn, whose keys and values are in the cache: until the prompt takes three
    quarters of the tokens beside the answer, or only the last turn is left.

    Parameters
    ----------
    make : callable (messages) -> ChatPrompt
    messages : sequence of dict
    options : GenerationOptions
    capacity : int
        Tokens that fit.
    left_out : int, optional
        How many messages the last prompt of this conversation left out. The same ones stay out as
        long as the rest fits. None if that is not known: then somewhat fewer may go, because the
        first turn that stays is chosen by its number, so that it is mostly the same for the next
        prompt.

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
    before, last = starts.index(begin + (left_out or 0)), len(starts) - 1

    @cache
    def prompt(turn: int) -> ChatPrompt | ContextOverflowError:
        try:
            return make([*messages[:begin], *messages[starts[turn] :]])
        except ContextOverflowError as error:
            return error

    def fits(turn: int, new: int) -> bool:
        found = prompt(turn)
        return isinstance(found, ChatPrompt) and len(found.ids) + new <= capacity

    def first_fitting(low: int, new: int) -> int:
        """The first turn after `low` with which the prompt may begin, if `low` is too early."""
        high = last
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if fits(middle, new) else (middle, high)
        return high

    if fits(before, room):
        turn = before
    elif not fits(last, room):
        turn, room = last, least
    else:
        fewest = first_fitting(before, room)
        most = first_fitting(fewest - 1, room + (capacity - room) // 4)
        # Both limits rise from prompt to prompt. The number between them with most factors of two
        # stays the same until it is below them, or one with more factors comes between them.
        turn = most if left_out is not None else max(range(fewest, most + 1), key=_power_of_two)
    found = prompt(turn)
    if not isinstance(found, ChatPrompt):
        raise found
    if len(found.ids) + room > capacity:
        reason = _reason(len(found.ids), room, capacity)
        raise ContextOverflowError(len(found.ids) + room, capacity, reason)
    return found, starts[turn] - begin


def _power_of_two(number: int) -> int:
    """The largest power of two that divides a positive number."""
    return number & -number


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
