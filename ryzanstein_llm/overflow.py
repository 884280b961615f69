"""What happens to tokens that do not fit the context: `overflow` of a request."""

from __future__ import annotations

from .engine.engine import Engine
from .engine.sequence import without_older_half
from .errors import ContextOverflowError
from .errors.request import LONGER_CONTEXT
from .options import GenerationOptions

__all__ = ["beginning", "fitted"]


def beginning(tokens: list[int], start_id: int | None) -> int:
    """How many tokens are never dropped: 1 if the first one is beginning-of-text, else 0."""
    return int(bool(tokens) and tokens[0] == start_id)


def fitted(
    tokens: list[int],
    options: GenerationOptions,
    engine: Engine,
    start_id: int | None,
    before: int = 0,
) -> list[int]:
    """The tokens that a request begins with, of those that it was given. The first `before` were in
    the session already.

    "error": all. "truncate": beginning-of-text if it comes first, and as many of the last ones as
    leave room for `max_tokens`, or for one if that is None. "shift": the older half is dropped, but
    not beginning-of-text, until there is room for one token.

    Raises
    ------
    ContextOverflowError
        For "error", if there are more than the context holds; otherwise, if `max_tokens` or the
        context leave no room for a token of the prompt.
    """
    context, capacity = engine.context_length, engine.store.capacity
    if options.overflow == "error":
        if len(tokens) > context:
            raise _too_long(len(tokens), context, before)
        return tokens
    kept = beginning(tokens, start_id)
    new = 1 if options.max_tokens is None else options.max_tokens
    room = capacity - (min(new, 1) if options.overflow == "shift" else new)
    if room < kept + 1:
        raise ContextOverflowError(
            kept + 1 + capacity - room, capacity, _no_room(options, kept, capacity)
        )
    if len(tokens) <= room:
        return tokens
    if options.overflow == "truncate":
        return [*tokens[:kept], *tokens[len(tokens) - (room - kept) :]]
    while len(tokens) > room:
        tokens = without_older_half(tokens, kept)
    return tokens


def _too_long(tokens: int, context: int, before: int) -> ContextOverflowError:
    if not before:
        return ContextOverflowError(tokens, context)
    reason = (
        f"the session has {before}, and the prompt adds {tokens - before}; make room with "
        'truncate(), let overflow="truncate" or "shift" drop the oldest tokens, or '
        f"{LONGER_CONTEXT}"
    )
    return ContextOverflowError(tokens, context, reason)


def _no_room(options: GenerationOptions, kept: int, capacity: int) -> str:
    """Why there is no room for a token of the prompt, and what to change."""
    most = capacity - kept - 1
    if options.overflow == "truncate" and options.max_tokens is not None and most >= 0:
        return (
            f"max_tokens={options.max_tokens} leaves no room for the prompt; lower max_tokens to "
            f"{most} or less"
        )
    return f"there is no room for a token of the prompt and a new one; {LONGER_CONTEXT}"
